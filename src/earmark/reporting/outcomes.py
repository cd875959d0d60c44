"""The outcomes of rules and checks, in the same words on the terminal, in Markdown and in the report."""

from collections.abc import Mapping
from typing import Any

PASSED, QUARANTINED, FAILED = "passed", "quarantined", "failed"
EXAMPLES = 3
"""How many rows that break a rule are named."""


def of_rule(entry: Mapping[str, Any]) -> str:
    """Returns the outcome of an entry of `rules` in reports/validation/result.json."""
    if entry["success"]:
        return PASSED
    return QUARANTINED if entry["suite"] == "clips" else FAILED


def of_check(check: Mapping[str, Any]) -> str:
    """Returns the outcome of one of the gate's checks in reports/verdict.json."""
    return PASSED if check["passed"] else FAILED


def broken_by(entry: Mapping[str, Any]) -> str:
    """Returns how many rows break a rule, and the first of them; "" if none does."""
    if not entry["failed"]:
        return ""
    shown = entry["failed_ids"][:EXAMPLES]
    more = [f"and {entry['failed'] - len(shown)} more"] * (entry["failed"] > len(shown))
    return f"{entry['failed']}: {', '.join([*map(printable, shown), *more])}"


def printable(text: str) -> str:
    """`text`, or its ASCII form where it holds characters that a terminal cannot show."""
    return text if text.isprintable() else ascii(text)
