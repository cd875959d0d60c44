"""Records what data/raw was built from, and checks that it is complete. Imports little, since ingest runs often."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from earmark.errors import UserError
from earmark.io.files import write_json
from earmark.params import Params
from earmark.paths import DVC_LOCK

RECORD = "ingested.json"
FORMAT_VERSION = 3
"""Increase it when the same source would give other bytes."""


def read(folder: Path) -> dict[str, Any]:
    """The record of `folder`; empty if nothing was ingested yet.

    Raises:
        UserError: the folder is missing although dvc.lock has a version of it, or its files were changed.
    """
    if not folder.exists() or not any(folder.iterdir()):
        if f"path: {folder.as_posix()}\n" in _text(DVC_LOCK):
            raise UserError(
                f"{folder} is missing, but dvc.lock has a version of it; restore it with 'dvc checkout {folder}' or "
                "'dvc pull', or remove dvc.lock to start again, forgotten recordings included"
            )
        return {}
    record = read_json(folder / RECORD)
    expected = {"format_version": FORMAT_VERSION, "bytes": _sizes(folder)}
    if isinstance(record, dict) and record | expected == record:
        return record
    raise UserError(
        f"{folder} was changed after ingest; restore it with 'dvc checkout {folder}', "
        "or remove it to ingest the source and the inbox again"
    )


def write(folder: Path, identity: Mapping[str, object]) -> None:
    """Write the record of `folder`, after all its other files.

    Args:
        folder: the folder.
        identity: the sources and settings that the folder was built from.
    """
    write_json(folder / RECORD, {"format_version": FORMAT_VERSION, **identity, "bytes": _sizes(folder)})


def split_settings(params: Params) -> dict[str, object]:
    """The parameters that the split of a clip depends on, as they are recorded."""
    return {"seed": params.seed, "split": params.split.model_dump(mode="json")}


def is_recorded(record: Mapping[str, object], role: str, signature: Mapping[str, str]) -> bool:
    """Whether this version of the source was already read as the "source" or the "inbox".

    False for a source without a fingerprint, whose files must be checked one by one.
    """
    return bool(signature["fingerprint"]) and record.get(role) == signature


def identity_of(record: Mapping[str, object]) -> dict[str, object]:
    """The `identity` that was passed to `write`."""
    return {key: value for key, value in record.items() if key not in ("format_version", "bytes")}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def read_json(path: Path) -> object:
    """The content of `path`; None if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.name != RECORD}
