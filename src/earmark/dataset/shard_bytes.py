"""Reads the bytes of one raw shard, from a local file or an address."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from upath import UPath

from earmark.errors import UserError
from earmark.io.files import AnyPath, is_local


def read_shard(path: AnyPath, min_bytes: int) -> npt.NDArray[np.uint8]:
    """A whole shard, uint8 (bytes,), read-only: a local file is memory-mapped, an object is fetched in one request.

    Raises:
        UserError: the shard is missing or has fewer than `min_bytes` bytes.
    """
    try:
        content = _map(path) if is_local(path) else _fetch(UPath(path))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run 'dvc checkout' or 'dvc pull' to restore it") from None
    if len(content) < min_bytes:
        raise UserError(f"{path} ends before byte {min_bytes}; run 'dvc checkout' to restore it")
    return content


def _fetch(path: UPath) -> npt.NDArray[np.uint8]:
    return np.frombuffer(path.fs.cat_file(path.path), np.uint8)


def _map(path: Path) -> npt.NDArray[np.uint8]:
    if not path.stat().st_size:  # an empty file cannot be mapped
        return np.empty(0, np.uint8)
    return np.asarray(np.memmap(path, np.uint8, mode="r"))
