"""What a source yields: a file of the data set, read, remembered or refused."""

from collections.abc import Mapping
from dataclasses import dataclass

Memory = Mapping[str, tuple[str, str]]
"""Path -> (version, SHA-256) of content that need not be read again for as long as its version stays."""


@dataclass(frozen=True)
class Found:
    """A file that a source has.

    Attributes:
        path: POSIX path relative to the data set's root, in Unicode form NFC.
        version: changes when the file does, such as an ETag; "" where the source has none.
        content: the file's bytes; None where they are remembered for this version, or where the file is refused.
        sha256: hex digits of remembered content, else "".
        refused: why the file is not taken, "" where it is.
    """

    path: str
    version: str = ""
    content: bytes | None = None
    sha256: str = ""
    refused: str = ""
