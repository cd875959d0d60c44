"""One run at a time in a checkout: a second one is told what runs and since when, or waits."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from earmark.errors import UserError


@contextmanager
def only_run(path: Path, command: str, wait: bool = False) -> Iterator[None]:
    """Holds the lock `path` while `command` runs; with `wait`, waits for the run that holds it.

    Whatever a run starts, such as the stages of a flow, belongs to it and does not lock. The kernel frees the lock when
    its process is killed.

    Raises:
        UserError: another run holds the lock.
    """
    from filelock import FileLock, Timeout

    if _belongs_to(_read(path)):
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        running = _describe(_read(path))
        if not wait:
            raise UserError(f"{running} in this checkout; try again when it has ended, or wait with --wait") from None
        print(f"earmark: waiting: {running}", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        path.write_text(json.dumps(_own(command)), encoding="utf-8")
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()


def _own(command: str) -> dict[str, Any]:
    import psutil

    process = psutil.Process()
    since = datetime.now().isoformat(" ", "minutes")
    return {"pid": process.pid, "started": process.create_time(), "command": command, "since": since}


def _read(path: Path) -> dict[str, Any]:
    """What the holder wrote; empty if nobody holds the lock, or the holder has not come to it."""
    with suppress(OSError, ValueError):
        record = json.loads(path.read_text(encoding="utf-8"))
        return record if isinstance(record, dict) else {}
    return {}


def _belongs_to(record: dict[str, Any]) -> bool:
    """Whether the run of `record` started this process."""
    if not record:
        return False
    import psutil

    return any(
        process.pid == record.get("pid") and process.create_time() == record.get("started")
        for process in psutil.Process().parents()
    )


def _describe(record: dict[str, Any]) -> str:
    if not record:
        return "another run is starting or ending"
    return f"'{record['command']}' (process {record['pid']}) has been running since {record['since']}"
