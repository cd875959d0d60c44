"""Raw audio: recordings' bytes untouched in tar shards, and a Parquet manifest with one row a recording."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from earmark.errors import UserError

MAX_SHARD_BYTES = 64 * 1024 * 1024
MANIFEST = "manifest.parquet"
NOISE = "noise"
"""What the manifest's column `split` says of background noise, which is no clip."""


class ShardWriter:
    """Appends recordings to tar shards of at most `max_bytes` in `folder`; the same recordings give the same bytes."""

    def __init__(self, folder: Path, max_bytes: int = MAX_SHARD_BYTES):
        self._folder, self._max_bytes = folder, max_bytes
        self._count, self._tar = 0, None

    def add(self, name: str, content: bytes) -> tuple[str, int, int]:
        """Stores `content` under `name`; returns shard, offset and length, in bytes."""
        if self._tar is not None and self._tar.offset + len(content) + 8 * tarfile.BLOCKSIZE > self._max_bytes:
            self.close()
        if self._tar is None:
            self._open()
        header = tarfile.TarInfo(name)
        header.size = len(content)
        self._tar.addfile(header, io.BytesIO(content))
        padded = -(-len(content) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        return Path(self._tar.name).name, self._tar.offset - padded, len(content)

    def close(self) -> None:
        """Ends the shard at hand."""
        if self._tar is not None:
            self._tar.close()
            self._tar = None

    def _open(self) -> None:
        self._tar = tarfile.open(  # noqa: SIM115  # closed by `close`
            self._folder / f"shard-{self._count:05d}.tar", "w", format=tarfile.GNU_FORMAT
        )
        self._count += 1

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def write_manifest(folder: Path, manifest: pd.DataFrame) -> None:
    """Writes the manifest into `folder`."""
    manifest.to_parquet(folder / MANIFEST, index=False)


def read_manifest(folder: Path) -> pd.DataFrame:
    """The manifest in `folder`, one row a recording; UserError where there is none."""
    try:
        return pd.read_parquet(folder / MANIFEST)
    except FileNotFoundError:
        raise UserError(f"{folder / MANIFEST} is missing; run 'dvc repro ingest' or 'dvc pull' first") from None


def read_accepted(path: Path) -> pd.DataFrame:
    """The manifest rows that validation accepted; UserError where there are none yet."""
    try:
        return pd.read_parquet(path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run 'dvc repro validate' or 'dvc pull' first") from None


def read_recordings(folder: Path, rows: pd.DataFrame) -> Iterator[bytes]:
    """The bytes of each of `rows`, in order, with one seek each; UserError where a shard is missing or too short."""
    shard, file = None, None
    try:
        for row in rows[["shard", "offset", "length"]].itertuples(index=False):
            if row.shard != shard:
                file and file.close()
                shard, file = row.shard, _open_shard(folder / row.shard)
            file.seek(row.offset)
            content = file.read(row.length)
            if len(content) != row.length:
                raise UserError(
                    f"{folder / row.shard} ends before byte {row.offset + row.length}; 'dvc checkout' restores it"
                )
            yield content
    finally:
        file and file.close()


def _open_shard(path: Path):
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise UserError(f"{path} is missing; 'dvc checkout' or 'dvc pull' restores it") from None
