"""`earmark registry`: lists and shows versions; lets people move the alias `champion`, with a reason."""

import json
import shutil
import tempfile
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from earmark.errors import UserError
from earmark.params import Params
from earmark.paths import VERDICT
from earmark.reporting import formats
from earmark.reporting.terminal import versions
from earmark.reporting.verdict import WrittenCheck

if TYPE_CHECKING:
    from earmark.registry.versions import Registry, Version

MAX_REASON = 1000


def list_versions(params: Params) -> str:
    """Returns a table of all versions, the latest first."""
    registry = _open(params)
    rows = [asdict(version) for version in reversed(registry.versions())]
    if not rows:
        return f"{registry.name} has no versions yet; 'earmark register' adds the first"
    return versions.listed(registry.name, rows, _width())


def show(params: Params, name: str) -> str:
    """Returns a version's verdict, provenance and alias moves as text; `name` is its number or an alias.

    Raises:
        UserError: there is no such version.
    """
    from earmark.provenance import store

    registry = _open(params)
    version = registry.find(name)
    aliases = f" ({', '.join(version.aliases)})" if version.aliases else ""
    moves = [
        asdict(move) | {"when": datetime.fromisoformat(move.when)} for move in registry.aliases.history(version.number)
    ]
    title = f"{registry.name} version {version.number}{aliases}, registered {formats.minute(version.registered)}"
    provenance = store.read(registry.name, version.number).provenance
    warning = f"{store.RECORD} is missing or was changed; see 'earmark lineage {version.number}'"
    changed = {} if provenance.is_intact else {"record": warning}
    return versions.shown(title, {**provenance.record, **changed, **_checks(version)}, moves, _width())


def _checks(version: "Version") -> dict[str, str]:
    """The gate's checks, which the version's run keeps; empty if there is no verdict yet, or no run any more."""
    from earmark.tracking import runs

    if not version.run_id or runs.tags_of(version.run_id) is None:
        return {}
    content = runs.files_of(version.run_id, VERDICT.stem).get(VERDICT.name, b"{}")
    try:
        checks = json.loads(content).get("checks", [])
        return {f"gate.{check['name']}": WrittenCheck(**check).line for check in checks}
    except (ValueError, AttributeError, TypeError, KeyError):
        return {"gate": f"{VERDICT.name} of the run is damaged"}


def promote(params: Params, name: str, why: str) -> str:
    """Makes a version champion; `name` is its number or an alias. Returns one sentence.

    Raises:
        UserError: there is no such version, it is champion already, it cannot be loaded, or `why` is no reason. Nothing
            moves then.
    """
    reason = _reason(why)
    registry = _open(params)
    version = registry.find(name)
    champion = registry.aliases.reconcile().champion
    if version.number == champion:
        raise UserError(f"{registry.name} version {champion} is champion already")
    _require_loadable(registry, version.number)
    has_moved = registry.aliases.promote(version.number, champion, reason)
    return _moved(registry, has_moved, champion, version.number, f"promote: {reason}")


def rollback(params: Params, why: str) -> str:
    """Makes the previous champion champion again; a second rollback goes back one further. Returns one sentence.

    Raises:
        UserError: there was none, it cannot be loaded any more, or `why` is no reason. Nothing moves then.
    """
    reason = _reason(why)
    registry = _open(params)
    state = registry.aliases.reconcile()
    if not state.former_champions:
        raise UserError(
            f"{registry.name} had no champion before; 'earmark registry promote' makes any version champion"
        )
    last = state.former_champions[-1]
    try:
        _require_loadable(registry, last)
    except UserError as error:
        raise UserError(
            f"{registry.name} version {last}, the previous champion, cannot be champion again: {error};"
            " 'earmark registry promote' makes another version champion"
        ) from None
    has_moved = registry.aliases.rollback(state, reason)
    return _moved(registry, has_moved, state.champion, last, f"rollback: {reason}")


def _open(params: Params) -> "Registry":
    from earmark.registry.versions import open_registry

    return open_registry(params.register_.name)


def _reason(why: str) -> str:
    reason = " ".join(why.split())
    if not 1 <= len(reason) <= MAX_REASON or not reason.isprintable():
        raise UserError(f"--why: {why[:60]!a} is no reason; expected 1 to {MAX_REASON} printable characters")
    return reason


def _require_loadable(registry: "Registry", number: str) -> None:
    from earmark.models import model_folder

    with tempfile.TemporaryDirectory(prefix="earmark-") as folder:
        model_folder.load(registry.download(number, Path(folder)))


def _moved(registry: "Registry", has_moved: bool, before: str, after: str, reason: str) -> str:
    if not has_moved:
        raise UserError(
            f"{registry.name} has another champion since this command started, so nothing moved;"
            " 'earmark registry list' shows it"
        )
    return f"champion of {registry.name}: version {before or 'none'} → version {after} ({reason})"


def _width() -> int:
    return max(100, shutil.get_terminal_size((120, 24)).columns)
