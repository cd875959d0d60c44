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
_EXPERIMENT = re.compile(r"(?P<root>/.*)/(?P<folder>mlruns|mlartifacts)/\d+")


def follow_moved_checkout(database: Path) -> None:
    """Changes the addresses in `database` if its checkout has another path than when they were written.

    A folder whose artifacts are not beside `database` now is left as it is: only the file was copied.
    """
    if not database.exists():
        return
    root = database.parent.resolve()
    engine = create_engine(f"sqlite:///{database.resolve()}")
    try:
        with engine.connect() as connection:
            moved = [before for before in _roots(connection) if _is_elsewhere(*before, root)]
        for before, folder in moved:
            with engine.begin() as connection:
                _replace(connection, f"{before}/{folder}/", f"{root}/{folder}/")
            print(f"mlflow.db: this checkout was at {before}; its artifacts are at {root} now", file=sys.stderr)
    finally:
        engine.dispose()


def _roots(connection: Connection) -> set[tuple[str, str]]:
    """Where experiments keep artifacts: the checkout, and the folder in it."""
    if not inspect(connection).has_table("experiments"):
        return set()
    rows = connection.execute(text("SELECT artifact_location FROM experiments"))
    matches = [_EXPERIMENT.fullmatch(location) for (location,) in rows if location]
    return {(match["root"], match["folder"]) for match in matches if match}


def _is_elsewhere(before: str, folder: str, root: Path) -> bool:
    here = root / folder
    there = Path(before) / folder
    return here.is_dir() and Path(before) != root and not (there.is_dir() and there.samefile(here))


def _replace(connection: Connection, before: str, after: str) -> None:
    inspector = inspect(connection)
    for table, column in ADDRESSES:
        if inspector.has_table(table) and column in {entry["name"] for entry in inspector.get_columns(table)}:
            update = f"UPDATE {table} SET {column} = :after || substr({column}, :start)"  # noqa: S608  # names of ours
            where = f"WHERE substr({column}, 1, :length) = :before"
            values = {"after": after, "before": before, "length": len(before), "start": len(before) + 1}
            connection.execute(text(f"{update} {where}"), values)
