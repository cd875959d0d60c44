"""What a kind of source returns for an address, and what it may need for that."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from earmark.dataset.sources.source_file import Memory, SourceFile


@dataclass(frozen=True)
class Source:
    """A data set that can be read.

    Attributes:
        name: a name for people, without folders of this machine.
        fingerprint: changes when the data set does, and is the same on every machine; "" for a source whose files
            must be checked one by one.
        local_fingerprint: returns hex digits that change, on this machine, when the data set does; reads no file.
        entries: yields the files; does not read those whose version is in the memory passed to it.
        is_shared: whether the version of a file is the same on every machine, as in a bucket.
        staging: the folder to which files are fetched; the caller removes it after storing them.
    """

    name: str
    fingerprint: str
    local_fingerprint: Callable[[], str]
    entries: Callable[[Memory], Iterator[SourceFile]]
    is_shared: bool = False
    staging: Path | None = None

    @property
    def signature(self) -> dict[str, str]:
        """Identifies this version of the data set."""
        return {"name": self.name, "fingerprint": self.fingerprint}


@dataclass(frozen=True)
class Context:
    """What a kind of source may need besides the address.

    Attributes:
        seed: of a data set that is generated.
        speakers: their number in a data set that is generated.
        downloads: the folder for what is fetched, and for the checksums of archives.
        existing_labels: labels of the data set; labels of a bucket that resemble them are refused.
    """

    seed: int
    speakers: int
    downloads: Path
    existing_labels: frozenset[str] = frozenset()


def fixed_source(name: str, fingerprint: str, files: Callable[[], Iterable[tuple[str, bytes]]]) -> Source:
    """Return a source that one fingerprint identifies with all its files; `files` yields their paths and contents."""

    def entries(_: Memory) -> Iterator[SourceFile]:
        for path, content in files():
            yield SourceFile(path, content=content)

    return Source(name, fingerprint, lambda: fingerprint, entries)
