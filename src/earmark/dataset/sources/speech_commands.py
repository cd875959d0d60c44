"""The published Speech Commands archives as sources, with their addresses and checksums."""

from collections.abc import Iterator
from dataclasses import dataclass

from earmark.dataset.sources import archive
from earmark.dataset.sources.download import download
from earmark.dataset.sources.source import Context, Source, fixed_source


@dataclass(frozen=True)
class OfficialArchive:
    """An archive that never changes; `sha256` is in hex digits."""

    name: str
    url: str
    sha256: str


ARCHIVES = {
    official.name: official
    for official in (
        OfficialArchive(
            name="speech_commands_v0.01",
            url="http://download.tensorflow.org/data/speech_commands_v0.01.tar.gz",
            sha256="743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d",
        ),
        OfficialArchive(
            name="speech_commands_v0.02",
            url="http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
            sha256="af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
        ),
    )
}


def open_source(address: str, context: Context) -> Source | None:
    """Return the archive of this name, which is downloaded once its files are read; None for other names."""
    official = ARCHIVES.get(address)
    if official is None:
        return None

    def files() -> Iterator[tuple[str, bytes]]:
        path = download(official.url, context.downloads / f"{official.name}.tar.gz", official.sha256)
        yield from archive.entries(path)

    return fixed_source(official.name, official.sha256, files)
