"""The lineage of a registered version on the terminal."""

import io
import shutil
from collections.abc import Sequence


def table(rows: Sequence[tuple[str, str, str]]) -> str:
    """Returns rows of (name, recorded, state) as a table as wide as the terminal, at least 80 columns."""
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    shown.add_column(no_wrap=True, style="bold")
    shown.add_column(overflow="fold")
    shown.add_column(overflow="fold")
    for row in rows:
        shown.add_row(*row)
    text = io.StringIO()
    Console(file=text, width=max(80, shutil.get_terminal_size((120, 24)).columns), markup=False).print(shown)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())
