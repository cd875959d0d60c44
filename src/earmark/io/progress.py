"""Progress on standard error: a bar on a terminal, a line every few seconds elsewhere."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Task
LINE_SECONDS = 5.0
"""Seconds between two lines if standard error is not a terminal."""


class Advance(Protocol):
    """Reports that `count` more are done; `note` is shown beside the numbers. Can be called from any thread."""

    def __call__(self, count: int, note: str = "") -> None: ...


@contextmanager
def progress(
    name: str,
    total: int,
    unit: str,
    clock: Callable[[], float] = time.monotonic,
    done: int = 0,
    line_seconds: float = LINE_SECONDS,
) -> Iterator[Advance]:
    """Show how many of `total` are done, the speed and the time left; `done` were done before the start."""
    if sys.stderr.isatty():
        with _bar(name, total, unit, done) as advance:
            yield advance
    else:
        yield _lines(name, total, unit, clock, done, line_seconds)


@contextmanager
def _bar(name: str, total: int, unit: str, done: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.table import Column
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: "Task") -> Text:
            return Text(f"{unit}, {task.speed:,.0f}/s" if task.speed else unit)

    columns = (
        TextColumn("{task.description}"),
        BarColumn(16),
        MofNCompleteColumn(),
        Speed(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
    )
    console = Console(stderr=True, markup=False, highlight=False)
    with Progress(*columns, console=console, redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task(name, total=total, completed=done, note="")

        def advance(count: int, note: str = "") -> None:
            bar.update(task, advance=count, note=note)

        yield advance


def _lines(name: str, total: int, unit: str, clock: Callable[[], float], before: int, line_seconds: float) -> Advance:
    started = last_line = clock()
    done = before
    lock = threading.Lock()

    def advance(count: int, note: str = "") -> None:
        nonlocal done, last_line
        with lock:
            done += count
            now = clock()
            if now - last_line < line_seconds or done == before:
                return
            last_line, speed = now, (done - before) / (now - started)
            parts = (f"{done:,} of {total:,} {unit}", f"{speed:,.0f}/s", f"{(total - done) / speed:,.0f} s left", note)
            print(f"{name}: {', '.join(filter(None, parts))}", file=sys.stderr, flush=True)

    return advance
