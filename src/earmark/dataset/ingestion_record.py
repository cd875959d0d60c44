"""What data/raw was made from, and whether all of it is there: the first thing an ingestion asks, so it is quick."""

import json
from collections.abc import Mapping
from pathlib import Path

from earmark.errors import UserError
from earmark.io.files import write_json
from earmark.params import Params

LEDGER = "ingested.json"
FORMAT_VERSION = 2
"""Raised when the same source would give other bytes."""


def read(folder: Path) -> dict:
    """What `folder` was made from; nothing where it is not there. UserError where it is not whole."""
    if not folder.exists() or not any(folder.iterdir()):
        if f"path: {folder.as_posix()}\n" in _text(Path("dvc.lock")):
            raise UserError(
                f"{folder} is missing, and dvc.lock knows a version of it: 'dvc checkout {folder}' or 'dvc pull' "
                "brings it back; without dvc.lock all is started anew, with what was forgotten too"
            )
        return {}
    ledger = read_json(folder / LEDGER)
    whole = {"format_version": FORMAT_VERSION, "bytes": _sizes(folder)}
    if isinstance(ledger, dict) and ledger | whole == ledger:
        return ledger
    raise UserError(
        f"{folder} is not as ingest left it: 'dvc checkout {folder}' brings the last version back, "
        f"and without {folder} all that the source and the inbox have is ingested again"
    )


def write(folder: Path, identity: Mapping[str, object]) -> None:
    """Writes what `folder` was made from, when all its other files are there."""
    write_json(folder / LEDGER, {"format_version": FORMAT_VERSION, **identity, "bytes": _sizes(folder)})


def splitting(params: Params) -> dict[str, object]:
    """What the split of the clips depends on, as the ledger keeps it."""
    return {"seed": params.seed, "split": params.split.model_dump(mode="json")}


def has_read(recorded: Mapping[str, object], role: str, signature: Mapping[str, str]) -> bool:
    """Whether this very source was read as the "source" or the "inbox"; one without a fingerprint is asked each
    time."""
    return bool(signature["fingerprint"]) and recorded.get(role) == signature


def identity_of(recorded: Mapping[str, object]) -> dict[str, object]:
    """The `identity` that `write` was given."""
    return {key: value for key, value in recorded.items() if key not in ("format_version", "bytes")}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def read_json(path: Path) -> object:
    """What `path` holds; None where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.name != LEDGER}
