"""The leaderboard on the terminal."""

import io

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from earmark.reporting.leaderboard import HEADINGS, Cell, Leaderboard

WIDTH = 110


def table(leaderboard: Leaderboard) -> str:
    """The leaderboard as a table: figures, and the interval of the accuracy below it."""
    title = f"candidates on the {leaderboard.split} split"
    shown = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    shown.padding, shown.pad_edge, shown.show_edge = (0, 1, 0, 0), False, False
    for heading in HEADINGS:
        shown.add_column(heading, justify="left" if heading == HEADINGS[0] else "right", no_wrap=True)
    for row in leaderboard.rows:
        accuracy, *others = row.cells
        name = f"{row.name}\n(best)" if row.is_best else row.name
        shown.add_row(Text(name), _with_interval(accuracy), *(Text(cell.main.text) for cell in others))
    text = io.StringIO()
    Console(file=text, width=WIDTH, color_system=None).print(shown)
    return "\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines())


def _with_interval(cell: Cell) -> Text:
    return Text(f"{cell.main.text}\n{cell.below.text}" if cell.below else cell.main.text)
