"""Raw audio: the unchanged bytes of recordings in tar shards, and a Parquet manifest with one row per recording."""

import hashlib
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pandas as pd
import pyarrow

from earmark.errors import UserError
from earmark.io.files import AnyPath, is_local

MAX_SHARD_BYTES = 64 * 1024 * 1024
MANIFEST = "manifest.parquet"
SHARD_NAMES = "shard-*.tar"
NOISE = "noise"
"""Value of the manifest's column `split` for background noise."""
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
"""The manifest's columns -> dtypes.

`offset` and `length` are bytes, `ingested_on` is a date (UTC), `error` says why a recording cannot be decoded. A row is
`retired` if a later recording of the same name replaced it, or its source no longer has it; its bytes stay in the
shard, which is never rewritten, but are not used.
"""


class ShardWriter:
    """Writes recordings to new tar shards in `folder`, each of at most `max_bytes` unless one recording is larger.

    The same recordings give the same bytes. A shard is named after its content when it is closed; `names` maps the
    temporary names that `add` returned to the final ones.
    """

    def __init__(self, folder: Path, max_bytes: int = MAX_SHARD_BYTES):
        self.names: dict[str, str] = {}
        self._folder, self._max_bytes = folder, max_bytes
        self._file: BinaryIO | None = None

    def add(self, name: str, content: bytes, sha256: str) -> tuple[str, int, int]:
        """Store `content`, whose SHA-256 is `sha256`, under `name`; return its shard, offset and length in bytes."""
        member = tarfile.TarInfo(name)
        member.size = len(content)
        header = member.tobuf(tarfile.GNU_FORMAT, "utf-8")
        length = len(header) + len(content) + -len(content) % tarfile.BLOCKSIZE
        if self._file is not None and self._bytes + length + 2 * tarfile.BLOCKSIZE > self._max_bytes:
            self.close()
        if self._file is None:
            self._file = self._open()
        offset = self._bytes + len(header)
        for part in (header, content, bytes(-len(content) % tarfile.BLOCKSIZE)):
            self._file.write(part)
        self._bytes += length
        self._digest.update(f"{sha256} {name}\n".encode())
        return self._path.name, offset, len(content)

    def close(self) -> None:
        """Finish the current shard and give it its final name."""
        if self._file is not None:
            self._file.write(bytes(2 * tarfile.BLOCKSIZE))
            self._file.close()
            self._file = None
            final = self._path.with_name(f"shard-{self._digest.hexdigest()[:16]}.tar")
            self.names[self._path.name] = self._path.rename(final).name

    def _open(self) -> BinaryIO:
        self._digest, self._bytes = hashlib.sha256(), 0
        self._path = self._folder / f"{len(self.names)}.tar"
        return self._path.open("wb")

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write_manifest(folder: Path, manifest: pd.DataFrame) -> None:
    """Write the manifest to `folder`."""
    manifest.to_parquet(folder / MANIFEST, index=False)


def read_members(folder: AnyPath) -> pd.DataFrame:
    """All rows of the manifest in `folder`, retired ones included.

    Raises:
        UserError: the manifest is missing or damaged.
    """
    return _read_table(folder / MANIFEST, "ingest")


def _read_table(path: AnyPath, stage: str) -> pd.DataFrame:
    try:
        with path.open("rb") as file:
            return pd.read_parquet(file)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run 'dvc repro {stage}' or 'dvc pull' first") from None
    except pyarrow.ArrowException:
        mend = "'dvc checkout --force' restores it" if is_local(path) else "remove it, then run 'earmark upload'"
        raise UserError(f"{path} is damaged; {mend}") from None


def read_manifest(folder: AnyPath) -> pd.DataFrame:
    """The current recordings of the manifest in `folder`, and `member`: the position of each in its shard, from 0.

    Raises:
        UserError: there is no manifest.
    """
    members = read_members(folder)
    places = members.groupby("shard")["offset"].rank(method="dense").astype("int64") - 1
    return members.assign(member=places)[~members["retired"]].drop(columns="retired").reset_index(drop=True)


def read_accepted(path: Path) -> pd.DataFrame:
    """The manifest rows that validation accepted.

    Raises:
        UserError: `validate` has not run yet, or the file is damaged.
    """
    return _read_table(path, "validate")


def read_recordings(folder: AnyPath, rows: pd.DataFrame) -> Iterator[bytes]:
    """Yield the bytes of each of `rows`, in order, with one seek each.

    Raises:
        UserError: a shard is missing or too short.
    """
    shard, file = "", None
    try:
        for row in rows[["shard", "offset", "length"]].itertuples(index=False):
            if file is None or row.shard != shard:
                if file is not None:
                    file.close()
                shard, file = row.shard, _open_shard(folder / row.shard)
            file.seek(row.offset)
            content = file.read(row.length)
            if len(content) != row.length:
                end = row.offset + row.length
                raise UserError(f"{folder / row.shard} ends before byte {end}; run 'dvc checkout' to restore it")
            yield content
    finally:
        if file is not None:
            file.close()


def _open_shard(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run 'dvc checkout' or 'dvc pull' to restore it") from None
