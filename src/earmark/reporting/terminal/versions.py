"""Registered versions, and the details of one, as tables on the terminal."""

import io
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from earmark.reporting import formats

GROUPS = {"gate.": "gate", "dvc.": "DVC's hashes", "sha256.": "SHA-256 of files", "": "other facts"}
"""The groups of what is known of a version: prefix and heading."""
VERDICT = "verdict"
VERDICT_CHARACTERS = 70
NO_VERDICT = "no verdict yet"


def listed(title: str, rows: Iterable[Mapping[str, Any]], width: int) -> str:
    """Returns a table of versions.

    Each row has number, aliases, registered (datetime), and tags: candidate, test_accuracy or validation_accuracy,
    saved_bytes, verdict.
    """
    table = Table(title=title, title_justify="left", title_style="bold")
    for heading in ("version", "aliases", "candidate", "accuracy", "saved kB", "registered", "verdict"):
        is_number = heading in ("version", "accuracy", "saved kB")
        table.add_column(heading, justify="right" if is_number else "left", no_wrap=heading == "registered")
    for row in rows:
        tags = row["tags"]
        cells = (
            row["number"],
            ", ".join(row["aliases"]),
            tags.get("candidate", ""),
            _accuracy(tags),
            f"{int(tags['saved_bytes']) / 1000:,.0f}" if tags.get("saved_bytes", "").isdigit() else "",
            formats.minute(row["registered"]),
            textwrap.shorten(tags.get(VERDICT, NO_VERDICT), VERDICT_CHARACTERS, placeholder=" …"),
        )
        table.add_row(*map(Text, cells))
    return _text([table], width)


def shown(title: str, facts: Mapping[str, str], moves: Sequence[Mapping[str, Any]], width: int) -> str:
    """Returns a version's verdict, the facts about it in groups, and the moves of aliases to and from it."""
    parts: list[RenderableType] = [Text(title, style="bold"), Text(facts.get(VERDICT, NO_VERDICT))]
    remaining = {key: value for key, value in sorted(facts.items()) if key != VERDICT}
    for prefix, heading in GROUPS.items():
        group = {key: value for key, value in remaining.items() if key.startswith(prefix)}
        remaining = {key: value for key, value in remaining.items() if key not in group}
        if group:
            parts.append(_pairs(heading, {key.removeprefix(prefix): value for key, value in group.items()}))
    return _text([*parts, _moves(moves)], width)


def _pairs(heading: str, values: Mapping[str, str]) -> Table:
    table = Table(title=heading, title_justify="left", title_style="bold", box=None, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in values.items():
        table.add_row(Text(key), Text(value))
    return table


def _moves(moves: Sequence[Mapping[str, Any]]) -> RenderableType:
    if not moves:
        return Text("no alias has pointed to it")
    table = Table(title="moves", title_justify="left", title_style="bold")
    for heading in ("alias", "from", "to", "how", "who", "when", "why"):
        table.add_column(heading, overflow="fold")
    for move in moves:
        cells = (move["alias"], move["before"] or "none", move["after"] or "none", move["how"], move["who"])
        run = f" (flow run {move['flow_run_id']})" if move["flow_run_id"] else ""
        table.add_row(*map(Text, (*cells, formats.minute(move["when"]), f"{move['why']}{run}")))
    return table


def _accuracy(tags: Mapping[str, str]) -> str:
    for split in ("test", "validation"):
        try:
            accuracy = formats.percent(float(tags[f"{split}_accuracy"]), 2)
        except (KeyError, ValueError):
            continue
        return accuracy if split == "test" else f"{accuracy} ({split})"
    return ""


def _text(parts: Iterable[RenderableType], width: int) -> str:
    text = io.StringIO()
    console = Console(file=text, width=width, color_system=None)
    for part in parts:
        console.print(part)
    return "\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines())
