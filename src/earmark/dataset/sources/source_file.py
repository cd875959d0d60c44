"""What a source yields: a file of the data set that was read, is unchanged, or is refused."""

from collections.abc import Mapping
from dataclasses import dataclass

Memory = Mapping[str, tuple[str, str]]
"""Path -> (version, SHA-256) of a file that need not be read again while its version stays the same."""


@dataclass(frozen=True)
class SourceFile:
    """A file of a source.

    Attributes:
        path: POSIX path relative to the data set's root, in Unicode form NFC.
        version: changes when the file does, such as an ETag; "" if the source has no versions.
        content: the file's bytes; None if the file is refused, or unchanged according to the memory.
        sha256: hex digits from the memory for an unchanged file; else "".
        refused: why the file is refused; "" if it is not.
    """

    path: str
    version: str = ""
    content: bytes | None = None
    sha256: str = ""
    refused: str = ""

    @property
    def read_content(self) -> bytes:
        """The bytes of a file that was read.

        Raises:
            ValueError: it was not read.
        """
        if self.content is None:
            raise ValueError(f"{self.path} was not read")
        return self.content
