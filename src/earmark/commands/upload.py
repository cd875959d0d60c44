"""`earmark upload`: copies data/raw to extract.raw, for extraction from a bucket."""

from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

import pandas as pd
from upath import UPath

from earmark.dataset import shards, state
from earmark.errors import UserError
from earmark.io.files import is_local, storage_errors
from earmark.io.progress import progress
from earmark.params import Params
from earmark.paths import RAW, raw_folder


def upload(params: Params) -> str:
    """Makes extract.raw a copy of data/raw; returns one sentence.

    Shards first and the manifest last, so that an interrupted upload is an outdated copy, which `extract` refuses.
    Shards that data/raw no longer has are deleted after that.

    Raises:
        UserError: extract.raw is data/raw itself or a copy of other recordings, data/raw is damaged, or the bucket
            cannot be used.
    """
    copy = raw_folder(params)
    if is_local(copy) and (_contains(copy, RAW) or _contains(RAW, copy)):
        raise UserError(f"params.yaml: extract.raw {copy} overlaps {RAW}; expected an address such as s3://bucket/raw")
    raw = state.load(RAW)
    sizes = {name: (RAW / name).stat().st_size for name in raw.shards}
    with _errors(copy):
        there = _sizes(copy)
        is_ours = shards.MANIFEST in there
        if is_ours:
            _require_older(copy, shards.read_members(copy), {*raw.members["sha256"], *raw.forgotten_sha256})
        missing = [name for name, size in sizes.items() if there.get(name) != size]
        with progress("upload", len(missing), "shards") as advance:
            for name in missing:
                _put(RAW / name, copy / name)
                advance(1)
        _put(RAW / shards.MANIFEST, copy / shards.MANIFEST)
        removed = sorted(name for name in there if fnmatch(name, shards.SHARD_NAMES) and name not in sizes and is_ours)
        for name in removed:
            (copy / name).unlink()
    return f"{len(missing)} of {len(sizes)} shards were new in {copy}; {len(removed)} were deleted there"


def _contains(folder: Path, path: Path) -> bool:
    return Path(path).resolve().is_relative_to(Path(folder).resolve())


@contextmanager
def _errors(copy: UPath) -> Iterator[None]:
    try:
        with storage_errors(copy):
            yield
    except (OSError, ValueError) as error:  # a folder that cannot be written, an address without a bucket
        raise UserError(f"params.yaml: extract.raw {copy} cannot be used: {' '.join(str(error).split())}") from None


def _require_older(copy: UPath, members: pd.DataFrame, known: set[str]) -> None:
    """Refuses to replace a copy that has recordings which data/raw never had."""
    unknown = int((~members["sha256"].isin(known)).sum())
    if unknown:
        raise UserError(
            f"params.yaml: extract.raw {copy} has {unknown} recordings that {RAW} never had; expected an empty folder,"
            f" or an older copy of {RAW}"
        )


def _sizes(folder: UPath) -> dict[str, int]:
    """The size of each file in `folder`, in bytes; a shard's name tells its content."""
    if not folder.exists():
        return {}
    return {path.name: int(path.stat().st_size) for path in folder.iterdir() if path.is_file()}


def _put(source: Path, target: UPath) -> None:
    if is_local(target):  # in S3 it would make the bucket
        target.parent.mkdir(parents=True, exist_ok=True)
    target.fs.put_file(str(source), target.path)
