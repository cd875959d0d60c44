"""The bytes of one raw shard, wherever it is."""

from pathlib import Path

import numpy as np

from earmark.errors import UserError
from earmark.io.files import is_local


def read_shard(path: Path, least_bytes: int) -> np.ndarray:
    """A whole shard, uint8 and read-only: mapped where it is a local file, else fetched with one request.

    UserError where it is missing or has fewer than `least_bytes`.
    """
    try:
        content = _mapped(path) if is_local(path) else np.frombuffer(path.fs.cat_file(path.path), np.uint8)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; 'dvc checkout' or 'dvc pull' restores it") from None
    if len(content) < least_bytes:
        raise UserError(f"{path} ends before byte {least_bytes}; 'dvc checkout' restores it")
    return content


def _mapped(path: Path) -> np.ndarray:
    if not path.stat().st_size:  # what is empty cannot be mapped
        return np.empty(0, np.uint8)
    return np.asarray(np.memmap(path, np.uint8, mode="r"))
