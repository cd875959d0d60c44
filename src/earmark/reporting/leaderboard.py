"""The leaderboard: one row a candidate. The terminal, Markdown and the page show the same cells in the same order."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from earmark.reporting import formats

HEADINGS = ("candidate", "accuracy", "macro F1", "validation", "parameters", "size", "ms/clip", "training")
"""Short, so that the table fits 80 columns; "validation" is the accuracy on the validation split."""


@dataclass(frozen=True)
class Figure:
    """A number as text, and its exact value; None if there is only text."""

    text: str
    value: float | None = None


@dataclass(frozen=True)
class Cell:
    """A figure, and an interval or a related figure that is shown below it."""

    main: Figure
    below: Figure | None = None


@dataclass(frozen=True)
class Row:
    """One candidate. `cells` belong to HEADINGS after the first, which is the name."""

    name: str
    is_best: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Leaderboard:
    """All candidates, the most accurate first; `split` of the figures is "test" or "validation"."""

    split: str
    rows: tuple[Row, ...]


def leaderboard(candidates: Mapping[str, Mapping[str, Any]], best: str) -> Leaderboard:
    """Builds the leaderboard from the candidates' metrics in reports/metrics.json, by name.

    Figures are of the test split, or of validation if there is no test split.
    """
    split = "test" if all("test" in metrics for metrics in candidates.values()) else "validation"
    by_accuracy = sorted(candidates.items(), key=lambda item: -item[1][split]["accuracy"])
    return Leaderboard(split, tuple(Row(name, name == best, _cells(metrics, split)) for name, metrics in by_accuracy))


def _cells(metrics: Mapping[str, Any], split: str) -> tuple[Cell, ...]:
    scores = metrics[split]
    validation_accuracy = metrics["validation"]["accuracy"]
    multiply_adds, clips_per_second = metrics["multiply_adds"], metrics["train_clips_per_second"]
    p50_ms, p99_ms = metrics["latency_ms_p50"], metrics["latency_ms_p99"]
    return (
        Cell(_percent(scores["accuracy"]), Figure(formats.interval(*scores["accuracy_ci95"]))),
        Cell(_percent(scores["macro_f1"]), Figure(formats.interval(*scores["macro_f1_ci95"]))),
        Cell(_percent(validation_accuracy)),
        Cell(_count(metrics["parameters"]), _count(multiply_adds)),
        Cell(Figure(formats.size(metrics["saved_bytes"]), metrics["saved_bytes"])),
        Cell(Figure(f"{p50_ms:.2f}", p50_ms), Figure(f"{p99_ms:.2f}", p99_ms)),
        Cell(
            Figure(formats.duration(metrics["train_seconds"]), metrics["train_seconds"]),
            Figure(formats.count(round(clips_per_second)), clips_per_second),
        ),
    )


def _percent(fraction: float) -> Figure:
    return Figure(formats.percent(fraction), fraction)


def _count(number: int) -> Figure:
    return Figure(formats.count(number), number)
