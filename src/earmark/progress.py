"""How far something is that takes a while: a bar on a terminal, a line every few seconds elsewhere."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LINE_SECONDS = 5.0
"""Seconds from one line to the next where nobody watches a terminal."""


@contextmanager
def progress(
    name: str, total: int, unit: str, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[int], None]]:
    """Gives a function, which any thread may call with how many more of `total` are done; shows how many that are, how
    fast and how long the rest takes, on standard error."""
    opened = _bar(name, total, unit) if sys.stderr.isatty() else _lines(name, total, unit, clock)
    with opened as advance:
        yield advance


@contextmanager
def _bar(name: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task) -> Text:
            return Text(f"{unit}, {task.speed:,.0f}/s" if task.speed else unit)

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Speed(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True, markup=False, highlight=False)) as bar:
        task = bar.add_task(name, total=total)
        yield lambda count: bar.advance(task, count)


@contextmanager
def _lines(name: str, total: int, unit: str, clock: Callable[[], float]) -> Iterator[Callable[[int], None]]:
    began = said = clock()
    done = 0
    lock = threading.Lock()

    def advance(count: int) -> None:
        nonlocal done, said
        with lock:
            done += count
            now = clock()
            if now - said < LINE_SECONDS or not done:
                return
            said, speed = now, done / (now - began)
            rest = f"{speed:,.0f}/s, {(total - done) / speed:,.0f} s left"
            print(f"{name}: {done:,} of {total:,} {unit}, {rest}", file=sys.stderr, flush=True)

    yield advance
