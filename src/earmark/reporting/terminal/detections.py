"""Detected words on the terminal."""

from earmark.reporting import formats


def line(seconds: float, label: str, probability: float) -> str:
    """Returns one detection; `seconds` is its time in the recording, right-aligned."""
    return f"{seconds:7.1f} s  {label}  {formats.percent(probability)}"
