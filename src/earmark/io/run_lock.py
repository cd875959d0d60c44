"""One run at a time in a checkout: a second one is told what runs and since when, or waits."""

import json
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from earmark.errors import UserError
from earmark.io.files import write_json

RUN = "EARMARK_RUN"
"""Environment variable of the run that holds the lock: the processes that it starts inherit it."""


def _to_standard_error(sentence: str) -> None:
    print(f"earmark: {sentence}", file=sys.stderr, flush=True)


@contextmanager
def only_run(
    path: Path, command: str, wait: bool = False, say: Callable[[str], object] = _to_standard_error
) -> Iterator[None]:
    """Holds the lock `path` while `command` runs; with `wait`, waits for the run that holds it, and says so.

    A process that the holder started, such as a stage of a flow, needs no lock of its own. The kernel frees the lock
    when its process is killed.

    Raises:
        UserError: another run holds the lock, or the lock cannot be written.
    """
    from filelock import FileLock, Timeout

    if _belongs_to(_read(path)):
        yield
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f".{path.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            running = _describe(_read(path))
            if not wait:
                advice = "try again when it has ended, or wait with --wait"
                raise UserError(f"{running} in this checkout; {advice}") from None
            say(f"waiting: {running}")
            lock.acquire()
        token = _write(path, command)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from None
    before = os.environ.get(RUN)
    os.environ[RUN] = token
    try:
        yield
    finally:
        os.environ.pop(RUN)
        if before is not None:
            os.environ[RUN] = before
        path.unlink(missing_ok=True)
        lock.release()


def _write(path: Path, command: str) -> str:
    token = uuid.uuid4().hex
    since = datetime.now().isoformat(" ", "minutes")
    write_json(path, {"pid": os.getpid(), "token": token, "command": command, "since": since})
    return token


def _read(path: Path) -> dict[str, Any]:
    """The holder's record; empty if there is none, or if it is not written yet."""
    with suppress(OSError, ValueError):
        record = json.loads(path.read_text(encoding="utf-8"))
        return record if isinstance(record, dict) else {}
    return {}


def _belongs_to(record: dict[str, Any]) -> bool:
    """Whether the run of `record` started this process."""
    token = record.get("token")
    return bool(token) and os.environ.get(RUN) == token


def _describe(record: dict[str, Any]) -> str:
    if not {"command", "pid", "since"} <= record.keys():
        return "another run is starting or ending"
    return f"'{record['command']}' (process {record['pid']}) has been running since {record['since']}"
