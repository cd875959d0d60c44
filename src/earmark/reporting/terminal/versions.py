"""Registered versions, and one of them with all that is known of it, as tables on the terminal."""

import io
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

GROUPS = {"gate.": "gate", "dvc.": "DVC's hashes", "sha256.": "SHA-256 of files", "": "other tags"}
"""What the tags of a version are grouped by: how they begin, and the heading."""
VERDICT = "verdict"
VERDICT_CHARACTERS = 70
UNJUDGED = "not judged yet"


def listed(title: str, rows: Iterable[Mapping[str, object]], width: int) -> str:
    """One row a version: number, aliases, tags (candidate, test_accuracy or validation_accuracy, saved_bytes, verdict)
    and `registered`."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for heading, how in (
        ("version", {"justify": "right"}),
        ("aliases", {}),
        ("candidate", {}),
        ("accuracy", {"justify": "right"}),
        ("saved kB", {"justify": "right"}),
        ("registered", {"no_wrap": True}),
        ("verdict", {}),
    ):
        table.add_column(heading, **how)
    for row in rows:
        tags = row["tags"]
        cells = (
            row["number"],
            ", ".join(row["aliases"]),
            tags.get("candidate", ""),
            _accuracy(tags),
            f"{int(tags['saved_bytes']) / 1000:,.0f}" if tags.get("saved_bytes", "").isdigit() else "",
            _moment(row["registered"]),
            textwrap.shorten(tags.get(VERDICT, UNJUDGED), VERDICT_CHARACTERS, placeholder=" …"),
        )
        table.add_row(*map(Text, cells))
    return _text([table], width)


def shown(title: str, tags: Mapping[str, str], moves: Sequence[Mapping[str, object]], width: int) -> str:
    """A version's verdict, its tags in groups, and the moves of aliases to it and away from it."""
    parts: list[RenderableType] = [Text(title, style="bold"), Text(tags.get(VERDICT, UNJUDGED))]
    remaining = {key: value for key, value in sorted(tags.items()) if key != VERDICT}
    for prefix, heading in GROUPS.items():
        mine = {key: value for key, value in remaining.items() if key.startswith(prefix)}
        remaining = {key: value for key, value in remaining.items() if key not in mine}
        if mine:
            parts.append(_pairs(heading, {key.removeprefix(prefix): value for key, value in mine.items()}))
    return _text([*parts, _moves(moves)], width)


def _pairs(heading: str, values: Mapping[str, str]) -> Table:
    table = Table(title=heading, title_justify="left", title_style="bold", box=None, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in values.items():
        table.add_row(Text(key), Text(value))
    return table


def _moves(moves: Sequence[Mapping[str, object]]) -> RenderableType:
    if not moves:
        return Text("no alias was moved to it")
    table = Table(title="moves", title_justify="left", title_style="bold")
    for heading in ("alias", "from", "to", "how", "who", "when", "why"):
        table.add_column(heading, overflow="fold")
    for move in moves:
        cells = (move["alias"], move["before"] or "none", move["after"] or "none", move["how"], move["who"])
        run = f" (flow run {move['flow_run_id']})" if move["flow_run_id"] else ""
        table.add_row(*map(Text, (*cells, _moment(move["when"]), f"{move['why']}{run}")))
    return table


def _accuracy(tags: Mapping[str, str]) -> str:
    for split in ("test", "validation"):
        try:
            said = f"{float(tags[f'{split}_accuracy']):.2%}"
        except (KeyError, ValueError):
            continue
        return said if split == "test" else f"{said} ({split})"
    return ""


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _text(parts: Iterable[RenderableType], width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    for part in parts:
        console.print(part)
    lines = console.file.getvalue().rstrip().splitlines()
    return "\n".join(line.rstrip() for line in lines)
