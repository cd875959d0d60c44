"""What validation found: a table on the terminal, and a page that needs nothing but itself."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

EXAMPLES = 3
"""How many of the rows that break a rule are named."""
_INDENT = {"initial_indent": "    ", "subsequent_indent": "    "}


def table(rules: Sequence[Mapping[str, Any]], width: int = 100) -> str:
    """Entries of `rules` in reports/validation/result.json as a table, `width` characters wide where a name is long;
    what breaks a rule stands below it."""
    rows = [("rule", "outcome", "observed"), *((each["rule"], outcome(each), each["observed"]) for each in rules)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    below = [""] + [textwrap.fill(broken_by(each), width, **_INDENT) for each in rules]
    return "\n".join(line for pair in zip(lines, below, strict=True) for line in pair if line)


def outcome(entry: Mapping[str, Any]) -> str:
    """What follows from a rule's result: "ok", "quarantine" for clips that break it, "REFUSED" for the data set."""
    if entry["success"]:
        return "ok"
    return "quarantine" if entry["suite"] == "clips" else "REFUSED"


def broken_by(entry: Mapping[str, Any]) -> str:
    """How many rows break a rule, and the first of them; nothing where none does."""
    if not entry["failed"]:
        return ""
    shown = entry["failed_ids"][:EXAMPLES]
    more = [f"and {entry['failed'] - len(shown)} more"] * (entry["failed"] > len(shown))
    return f"{entry['failed']}: {', '.join(_printable(each) for each in shown + more)}"


FILTERS = {"outcome": outcome, "broken_by": broken_by}
"""What rules.html.jinja is written with."""


def page(result: Mapping[str, Any], docs: Sequence[tuple[str, str]]) -> str:
    """The content of result.json and Data Docs, (suite, HTML) as `Checks.docs` gives them, as an HTML page that loads
    nothing from elsewhere."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= FILTERS
    html = environment.get_template("validation.html.jinja").render(
        result=result, docs=[(suite, Markup(body)) for suite, body in docs]
    )
    # Half a surrogate pair, as a file name can hold one, has no UTF-8.
    return html.encode("utf-8", "replace").decode("utf-8")


def _printable(text: str) -> str:
    return text if text.isprintable() else ascii(text)
