"""The SQLite file of a checkout that was moved or copied: the addresses of its artifacts follow the checkout."""

import re
import sys
from pathlib import Path

from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine import Connection

ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Columns in which MLflow keeps absolute paths."""
_EXPERIMENT = re.compile(r"(?P<root>/.*)/mlruns/\d+")


def follow_moved_checkout(database: Path) -> None:
    """Changes the addresses in `database` if its checkout has another path than when they were written.

    Nothing changes where an artifact that is at its old address is missing here: then only the database was copied, or
    the artifacts are kept at another place on purpose.
    """
    if not database.exists():
        return
    root = str(database.resolve().parent)
    engine = create_engine(f"sqlite:///{database.resolve()}")
    try:
        with engine.connect() as connection:
            moved = [before for before in _roots(connection) if before != root and _are_here(connection, before, root)]
        for before in moved:
            with engine.begin() as connection:
                _replace(connection, f"{before}/mlruns/", f"{root}/mlruns/")
            print(f"mlflow.db: this checkout was at {before}; its artifacts are at {root} now", file=sys.stderr)
    finally:
        engine.dispose()


def _roots(connection: Connection) -> set[str]:
    """The checkouts in which experiments were made."""
    if not inspect(connection).has_table("experiments"):
        return set()
    rows = connection.execute(text("SELECT artifact_location FROM experiments"))
    matches = [_EXPERIMENT.fullmatch(location) for (location,) in rows if location]
    return {match["root"] for match in matches if match}


def _are_here(connection: Connection, before: str, root: str) -> bool:
    """Whether artifacts below `before` are below `root` now, and none is there alone."""
    rows = connection.execute(text("SELECT artifact_uri FROM runs WHERE lifecycle_stage = 'active'"))
    old = [Path(address) for (address,) in rows if address and address.startswith(f"{before}/mlruns/")]
    pairs = [(address, Path(root) / address.relative_to(before)) for address in old]
    if any(there.exists() and here.exists() and there.samefile(here) for there, here in pairs):
        return False  # another name of the same folder
    return any(here.exists() for _, here in pairs) and all(here.exists() or not there.exists() for there, here in pairs)


def _replace(connection: Connection, before: str, after: str) -> None:
    inspector = inspect(connection)
    for table, column in ADDRESSES:
        if inspector.has_table(table) and column in {entry["name"] for entry in inspector.get_columns(table)}:
            update = f"UPDATE {table} SET {column} = :after || substr({column}, :start)"  # noqa: S608  # names of ours
            where = f"WHERE substr({column}, 1, :length) = :before"
            values = {"after": after, "before": before, "length": len(before), "start": len(before) + 1}
            connection.execute(text(f"{update} {where}"), values)
