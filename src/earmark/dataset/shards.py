"""Raw audio: recordings' bytes untouched in tar shards, and a Parquet manifest with one row a recording."""

import hashlib
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from earmark.errors import UserError

MAX_SHARD_BYTES = 64 * 1024 * 1024
MANIFEST = "manifest.parquet"
NOISE = "noise"
"""What the manifest's column `split` says of background noise, which is no clip."""
COLUMNS = {
    "id": "str",
    "label": "str",
    "speaker": "str",
    "split": "str",
    "sha256": "str",
    "source": "str",
    "ingested_on": "str",
    "format": "str",
    "sample_rate_hz": "int64",
    "channels": "int64",
    "frames": "int64",
    "seconds": "float64",
    "peak": "float64",
    "rms": "float64",
    "clipped_fraction": "float64",
    "error": "str",
    "shard": "str",
    "offset": "int64",
    "length": "int64",
    "retired": "bool",
}
"""The manifest's columns. `offset` and `length` are bytes, `ingested_on` is a date (UTC), `error` says why a recording
cannot be decoded. `retired` rows are of recordings that a later one of the same name replaced, or that their source
no longer has: their bytes stay in their shard, which is never rewritten, and count for nothing."""


class ShardWriter:
    """Appends recordings to new tar shards in `folder`, each of at most `max_bytes` unless one recording alone is
    larger; the same recordings give the same bytes.

    A shard is named after its content, so a name never stands for other bytes; `names` has the final name of each that
    `add` gave, once the writer is closed.
    """

    def __init__(self, folder: Path, max_bytes: int = MAX_SHARD_BYTES):
        self.names: dict[str, str] = {}
        self._folder, self._max_bytes, self._file = folder, max_bytes, None

    def add(self, name: str, content: bytes, sha256: str) -> tuple[str, int, int]:
        """Stores `content`, whose SHA-256 is `sha256`, under `name`; returns shard, offset and length, in bytes."""
        member = tarfile.TarInfo(name)
        member.size = len(content)
        header = member.tobuf(tarfile.GNU_FORMAT, "utf-8")
        length = len(header) + len(content) + -len(content) % tarfile.BLOCKSIZE
        if self._file is not None and self._bytes + length + 2 * tarfile.BLOCKSIZE > self._max_bytes:
            self.close()
        if self._file is None:
            self._open()
        offset = self._bytes + len(header)
        for part in (header, content, bytes(-len(content) % tarfile.BLOCKSIZE)):
            self._file.write(part)
        self._bytes += length
        self._digest.update(f"{sha256} {name}\n".encode())
        return self._path.name, offset, len(content)

    def close(self) -> None:
        """Ends the shard at hand."""
        if self._file is not None:
            self._file.write(bytes(2 * tarfile.BLOCKSIZE))
            self._file.close()
            self._file = None
            final = self._path.with_name(f"shard-{self._digest.hexdigest()[:16]}.tar")
            self.names[self._path.name] = self._path.rename(final).name

    def _open(self) -> None:
        self._digest, self._bytes = hashlib.sha256(), 0
        self._path = self._folder / f"{len(self.names)}.tar"
        self._file = self._path.open("wb")

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def write_manifest(folder: Path, manifest: pd.DataFrame) -> None:
    """Writes the manifest into `folder`."""
    manifest.to_parquet(folder / MANIFEST, index=False)


def read_members(folder: Path) -> pd.DataFrame:
    """Every row of the manifest in `folder`, retired ones too; UserError where there is no manifest."""
    try:
        with (folder / MANIFEST).open("rb") as file:
            return pd.read_parquet(file)
    except FileNotFoundError:
        raise UserError(f"{folder / MANIFEST} is missing; run 'dvc repro ingest' or 'dvc pull' first") from None


def read_manifest(folder: Path) -> pd.DataFrame:
    """The recordings of the manifest in `folder`, and `member`: where each stands in its shard, from 0. UserError where
    there is no manifest."""
    members = read_members(folder)
    places = members.groupby("shard")["offset"].rank(method="dense").astype("int64") - 1
    return members.assign(member=places)[~members["retired"]].drop(columns="retired").reset_index(drop=True)


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
