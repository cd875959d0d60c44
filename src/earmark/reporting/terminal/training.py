"""A training on the terminal, and in its log file."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from earmark.reporting import formats


def plan(epochs: int, clips: int, trained_by: str, log: str) -> str:
    """Returns what a training is going to do; `trained_by` names the devices, `log` is the path of its log file."""
    return (
        f"{epochs} epochs of {formats.count(clips)} clips with {trained_by}; each epoch is logged to {log} and MLflow"
    )


def note(epoch: int, epochs: int, loss: float, last: Mapping[str, Any] | None) -> str:
    """Returns what stands beside the progress bar; `last` has the figures of the last epoch that has ended."""
    validated = f", validation {formats.percent(last['validation_accuracy'], 2)}" if last else ""
    return f"epoch {epoch}/{epochs}, loss {formats.decimals(loss)}{validated}"


def epoch(row: Mapping[str, Any], epochs: int, clips: int) -> str:
    """Returns the figures of an epoch in which `clips` were trained on."""
    return (
        f"epoch {row['epoch']}/{epochs}: loss {formats.decimals(row['loss'])},"
        f" accuracy {formats.percent(row['accuracy'], 2)},"
        f" validation {formats.percent(row['validation_accuracy'], 2)},"
        f" {formats.count(round(clips / row['seconds']))} clips/s"
    )


def log_line(moment: datetime, text: str) -> str:
    """Returns a line of the log file; `moment` is in UTC."""
    return f"{moment:%Y-%m-%dT%H:%M:%SZ} {text}"


def sentence(candidate: str, row: Mapping[str, Any], epochs: int, seconds: float) -> str:
    """Returns what a training of `epochs` epochs has reached; `row` has the figures of the chosen epoch."""
    return (
        f"{candidate} reached {formats.percent(row['validation_accuracy'], 2)} on validation in epoch {row['epoch']}"
        f" of {epochs}, {formats.duration(seconds)}"
    )
