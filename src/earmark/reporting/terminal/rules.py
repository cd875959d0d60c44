"""The rules of validation on the terminal."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from earmark.reporting import outcomes

_INDENT = {"initial_indent": "    ", "subsequent_indent": "    "}


def table(rules: Sequence[Mapping[str, Any]], width: int = 100) -> str:
    """Entries of `rules` in reports/validation/result.json as a table; below each rule stands what breaks it, in lines
    of `width` characters."""
    rows = [("rule", "outcome", "observed")]
    rows += [(entry["rule"], outcomes.of_rule(entry), entry["observed"]) for entry in rules]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    below = ["", *(textwrap.fill(outcomes.broken_by(entry), width, **_INDENT) for entry in rules)]
    return "\n".join(line for pair in zip(lines, below, strict=True) for line in pair if line)
