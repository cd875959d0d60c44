"""`earmark registry`: what is registered, and moves of the champion's alias by people, each with a reason."""

import shutil
import tempfile
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from earmark.errors import UserError
from earmark.params import Params
from earmark.reporting.terminal import versions

if TYPE_CHECKING:
    from earmark.registry.versions import Registry

LONGEST_REASON = 1000


def list_versions(params: Params) -> str:
    """Every version, the latest first."""
    registry = _open(params)
    found = [asdict(version) for version in reversed(registry.versions())]
    if not found:
        return f"{registry.name} has no versions yet; 'earmark register' makes the first"
    return versions.listed(registry.name, found, _width())


def show(params: Params, wanted: str) -> str:
    """All that is known of the version with the number or alias `wanted`; UserError where there is none."""
    registry = _open(params)
    version = registry.find(wanted)
    aliases = f" ({', '.join(version.aliases)})" if version.aliases else ""
    moves = [
        asdict(move) | {"when": datetime.fromisoformat(move.when)}
        for move in registry.aliases.state().moves_of(version.number)
    ]
    title = f"{registry.name} version {version.number}{aliases}, registered {version.registered:%Y-%m-%d %H:%M} UTC"
    return versions.shown(title, version.tags, moves, _width())


def promote(params: Params, wanted: str, why: str) -> str:
    """Makes the version with the number or alias `wanted` champion.

    UserError, and nothing moves, where there is none, it reigns already, it cannot be loaded, or `why` says nothing.
    """
    reason = _reason(why)
    registry = _open(params)
    version = registry.find(wanted)
    champion = registry.aliases.reconcile().aliases["champion"]
    if version.number == champion:
        raise UserError(f"{registry.name} version {champion} is champion already")
    _require_loadable(registry, version.number)
    return _moved(registry, champion, version.number, "promote", reason)


def rollback(params: Params, why: str) -> str:
    """Makes the version champion that was it before the present one; again, and it is the one before that.

    UserError, and nothing moves, where there was none, it cannot be loaded any more, or `why` says nothing.
    """
    reason = _reason(why)
    registry = _open(params)
    record = registry.aliases.reconcile()
    if not record.former_champions:
        raise UserError(f"{registry.name} had no champion before; 'earmark registry promote' makes any version one")
    last = record.former_champions[-1]
    try:
        _require_loadable(registry, last)
    except UserError as error:
        raise UserError(
            f"{registry.name} version {last}, champion before, cannot be champion again: {error};"
            " 'earmark registry promote' makes another version champion"
        ) from None
    return _moved(registry, record.aliases["champion"], last, "rollback", reason)


def _open(params: Params) -> "Registry":
    from earmark.registry.versions import open_registry

    return open_registry(params.register_.name)


def _reason(why: str) -> str:
    reason = " ".join(why.split())
    if not 1 <= len(reason) <= LONGEST_REASON or not reason.isprintable():
        raise UserError(f"--why is {why[:60]!a}; allowed is a reason of 1 to {LONGEST_REASON} printable characters")
    return reason


def _require_loadable(registry: "Registry", number: str) -> None:
    from earmark.models import model_folder

    with tempfile.TemporaryDirectory(prefix="earmark-") as folder:
        model_folder.load(registry.download(number, Path(folder)))


def _moved(registry: "Registry", before: str, after: str, how: str, why: str) -> str:
    if not registry.aliases.move("champion", before, after, how, why):
        raise UserError(
            f"another champion of {registry.name} was made in the meantime, and nothing moved;"
            " 'earmark registry list' shows which"
        )
    return f"champion of {registry.name}: version {before or 'none'} → version {after} ({how}: {why})"


def _width() -> int:
    return max(100, shutil.get_terminal_size((120, 24)).columns)
