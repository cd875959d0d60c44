"""Sources of recordings: each yields the files of one data set in the layout of Speech Commands."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from earmark.addresses import is_url, redact_url
from earmark.dataset.sources import archive_file, folder, s3, speech_commands, synthetic
from earmark.dataset.sources.source import Context, Source
from earmark.errors import UserError

Role = Literal["source", "inbox"]


@dataclass(frozen=True)
class Kind:
    """A kind of source.

    Attributes:
        expected: its addresses in words, for an error.
        open: returns the data set at an address, or None if the address is of another kind; reads no recording.
        roles: the parameters below `dataset` that may name it.
    """

    expected: str
    open: Callable[[str, Context], Source | None]
    roles: tuple[Role, ...] = ("source", "inbox")


KINDS = (
    Kind("synthetic", synthetic.open_source, ("source",)),
    Kind(", ".join(speech_commands.ARCHIVES), speech_commands.open_source, ("source",)),
    Kind("s3://bucket/prefix", s3.open_source, ("inbox",)),
    Kind("a folder", folder.open_source),
    Kind("a .tar.gz, .tgz, .tar or .zip archive (path or URL)", archive_file.open_source),
)


def open_source(address: str, context: Context) -> Source:
    """Return the data set that ``dataset.source`` names, without reading its recordings yet.

    Raises:
        UserError: there is no such source, or its URL cannot be downloaded.
    """
    return _open("source", address, context)


def open_inbox(address: str, context: Context) -> Source:
    """Return the data set that ``dataset.inbox`` names, without reading its recordings yet.

    Its name contains a slash; that of no other source does.

    Raises:
        UserError: there is no such inbox, or its URL cannot be downloaded.
    """
    inbox = _open("inbox", address, context)
    return inbox if "/" in inbox.name else replace(inbox, name=f"inbox/{inbox.name}")


def _open(role: Role, address: str, context: Context) -> Source:
    kinds = [kind for kind in KINDS if role in kind.roles]
    for kind in kinds:
        source = kind.open(address, context)
        if source is not None:
            return source
    *others, last = (kind.expected for kind in kinds)
    problem = "is not an archive by its name" if is_url(address) or Path(address).is_file() else "does not exist"
    shown = redact_url(address) if is_url(address) else address
    raise UserError(f"dataset.{role} is '{shown}', which {problem}; expected {', '.join(others)}, or {last}")
