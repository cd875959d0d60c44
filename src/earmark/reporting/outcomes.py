"""The outcomes of rules and checks, in the same words on the terminal, in Markdown and in the report."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """How a rule or a check ended; the values are the words for people."""

    PASSED = "passed"
    FAILED = "failed"
    QUARANTINED = "quarantined"
    """The clips that break a rule were set aside, and the rest goes on."""
    NOT_MEASURED = "not measured"
    """There was nothing to measure; that does not stop a version."""


EXAMPLES = 3
"""How many rows that break a rule are named."""


def of_rule(entry: Mapping[str, Any]) -> Outcome:
    """Returns the outcome of an entry of `rules` in reports/validation/result.json."""
    if entry["success"]:
        return Outcome.PASSED
    return Outcome.QUARANTINED if entry["suite"] == "clips" else Outcome.FAILED


def broken_by(entry: Mapping[str, Any]) -> str:
    """Returns how many rows break a rule, and the first of them; "" if none does."""
    if not entry["failed"]:
        return ""
    shown = entry["failed_ids"][:EXAMPLES]
    more = [f"and {entry['failed'] - len(shown)} more"] * (entry["failed"] > len(shown))
    return f"{entry['failed']}: {', '.join([*map(printable, shown), *more])}"


def printable(text: str) -> str:
    """`text`, or its ASCII form where it holds characters that a terminal cannot show."""
    return text if text.replace("\u00a0", " ").isprintable() else ascii(text)  # a no-break space can be shown
