"""The rules of validation on the terminal."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from earmark.reporting import outcomes

_INDENT = "    "


def table(rules: Sequence[Mapping[str, Any]], width: int = 100) -> str:
    """Returns the entries of `rules` in reports/validation/result.json as a table.

    Below each rule stands what breaks it, in lines of at most `width` characters.
    """
    rows = [("rule", "outcome", "observed")]
    rows += [(entry["rule"], outcomes.of_rule(entry), entry["observed"]) for entry in rules]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    below = [
        "",
        *(
            textwrap.fill(outcomes.broken_by(entry), width, initial_indent=_INDENT, subsequent_indent=_INDENT)
            for entry in rules
        ),
    ]
    return "\n".join(line for pair in zip(lines, below, strict=True) for line in pair if line)
