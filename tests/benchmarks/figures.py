"""What benchmarks find: a table for people, and reports/bench-<name>.json for programs."""

import json
import math
import operator
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

_WIDTH_OF_FILES = 120
_COMPARISONS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "=": operator.eq}


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Attributes:
        name: what was measured.
        value: the measured number, in `unit`.
        unit: such as "s", "MiB".
        against: in words, what `ratio` compares `value` with.
        ratio: the number that `goal` is about.
        goal: a comparison and a number, such as "<= 1.5".
    """

    name: str
    value: float
    unit: str
    against: str
    ratio: float
    goal: str

    @property
    def holds(self) -> bool:
        """Whether the ratio meets the goal.

        Raises:
            ValueError: the goal is no comparison.
        """
        comparison, _, limit = self.goal.partition(" ")
        if comparison not in _COMPARISONS:
            raise ValueError(
                f"goal: {self.goal!r} is no comparison; expected one of {', '.join(_COMPARISONS)}, then a number"
            )
        return bool(_COMPARISONS[comparison](self.ratio, float(limit)))

    def row(self) -> dict:
        """`name`, `value`, `unit`, `against`, `ratio`, `goal` and `holds`, for JSON, which has no infinite numbers."""
        return {
            "name": self.name,
            "value": _rounded(self.value),
            "unit": self.unit,
            "against": self.against,
            "ratio": _rounded(self.ratio),
            "goal": self.goal,
            "holds": self.holds,
        }


def _rounded(number: float) -> float | None:
    return round(number, 4) if math.isfinite(number) else None


def show(title: str, figures: Sequence[Figure]) -> None:
    """Prints the figures as a table."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("figure", "value", "against", "ratio", "goal", "holds"):
        table.add_column(heading, justify="right" if heading in ("value", "ratio", "goal") else "left", overflow="fold")
    for figure in figures:
        holds = "[green]yes[/]" if figure.holds else "[red]no[/]"
        table.add_row(
            figure.name, f"{figure.value:,.2f} {figure.unit}", figure.against, f"{figure.ratio:.3g}", figure.goal, holds
        )
    Console(width=None if sys.stdout.isatty() else _WIDTH_OF_FILES).print(table)


def write(name: str, figures: Sequence[Figure], reports: Path, **where: str) -> Path:
    """Writes the figures, each with `where` it was measured, to bench-<name>.json in the folder `reports`.

    Returns the file.
    """
    path = reports / f"bench-{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [figure.row() | where for figure in figures]
    path.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
