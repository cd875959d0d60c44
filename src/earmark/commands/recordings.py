"""`earmark ls`, `cat` and `unpack`: list the recordings in data/raw, and write their files, byte for byte."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from earmark.dataset import shards, state
from earmark.dataset.layout import LIST_SPLITS
from earmark.errors import UserError
from earmark.io.files import require_writable
from earmark.paths import RAW
from earmark.reporting.terminal import recordings

LIST_NAMES: dict[str, str] = {split: name for name, split in LIST_SPLITS.items()}


def lines() -> Iterator[str]:
    """Yields one line a recording, sorted by id: id, speaker, split and seconds, separated by tabs."""
    for row in shards.read_manifest(RAW).sort_values("id").itertuples():
        yield recordings.line(row.id, row.speaker, row.split, row.seconds)


def content(recording: str) -> bytes:
    """Returns the bytes of the recording with this id.

    Raises:
        UserError: there is no such recording.
    """
    manifest = shards.read_manifest(RAW)
    rows = manifest[manifest["id"] == recording]
    if rows.empty:
        raise UserError(f"{RAW} has no recording {recording!r}; 'earmark ls' lists them all")
    return next(shards.read_recordings(RAW, rows))


def unpack(folder: Path) -> str:
    """Writes every recording to `folder`/<label>/<name>, and the lists of its splits if there are any.

    The folder can be used as dataset.source. It appears as a whole or not at all.

    Raises:
        UserError: the folder has files already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists already; expected a new or an empty folder")
    require_writable(folder)
    manifest = shards.read_manifest(RAW).sort_values(["shard", "offset"])
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        target = Path(temporary) / "unpacked"
        target.mkdir()
        for recording, bytes_ in zip(manifest["id"], shards.read_recordings(RAW, manifest), strict=True):
            path = target / recording
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes_)
        for split, ids in state.load(RAW).listed_ids.items():
            (target / LIST_NAMES[split]).write_text("".join(f"{name}\n" for name in sorted(ids)), encoding="utf-8")
        target.rename(folder)
    return f"{len(manifest)} recordings in {folder}"
