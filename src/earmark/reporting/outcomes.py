"""How a rule or a check came out, in one vocabulary for the terminal, Markdown and the page."""

from collections.abc import Mapping
from typing import Any

PASSED, QUARANTINED, FAILED = "passed", "quarantined", "failed"
EXAMPLES = 3
"""How many of the rows that break a rule are named."""


def of_rule(entry: Mapping[str, Any]) -> str:
    """The outcome of an entry of `rules` in reports/validation/result.json: clips that break a rule are quarantined, a
    data set that breaks one fails."""
    if entry["success"]:
        return PASSED
    return QUARANTINED if entry["suite"] == "clips" else FAILED


def of_check(check: Mapping[str, Any]) -> str:
    """The outcome of one of the gate's checks in reports/verdict.json."""
    return PASSED if check["passed"] else FAILED


def broken_by(entry: Mapping[str, Any]) -> str:
    """How many rows break a rule, and the first of them; "" where none does."""
    if not entry["failed"]:
        return ""
    shown = entry["failed_ids"][:EXAMPLES]
    more = [f"and {entry['failed'] - len(shown)} more"] * (entry["failed"] > len(shown))
    return f"{entry['failed']}: {', '.join([*map(printable, shown), *more])}"


def printable(text: str) -> str:
    """`text`, or its ASCII form where it holds characters that a terminal cannot show."""
    return text if text.isprintable() else ascii(text)
