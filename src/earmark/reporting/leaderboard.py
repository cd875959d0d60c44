"""The candidates as one table on the terminal."""

import io

from rich.console import Console
from rich.table import Table


def leaderboard(metrics: dict, width: int = 110) -> str:
    """The content of reports/metrics.json as a table, the best candidate first; test figures where there is a test
    split."""
    split = "test" if all("test" in entry for entry in metrics["candidates"].values()) else "validation"
    table = Table(title=f"candidates on the {split} split", title_justify="left", title_style="bold")
    table.add_column("candidate")
    for heading in ("accuracy", "95 % interval", "macro F1", "parameters", "saved MB", "ms per clip", "trained s"):
        table.add_column(heading, justify="right")
    names = sorted(metrics["candidates"], key=lambda name: -metrics["candidates"][name]["validation"]["accuracy"])
    for name in names:
        entry = metrics["candidates"][name]
        table.add_row(f"{name} (best)" if name == metrics["best"] else name, *_cells(entry[split], entry))
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(table)
    return console.file.getvalue().rstrip()


def _cells(figures: dict, entry: dict) -> tuple[str, ...]:
    low, high = figures["accuracy_ci95"]
    return (
        f"{figures['accuracy']:.2%}",
        f"{low:.2%} – {high:.2%}",
        f"{figures['macro_f1']:.3f}",
        f"{entry['parameters']:,}",
        f"{entry['saved_bytes'] / 1e6:.2f}",
        f"{entry['latency_ms_p50']:.1f}",
        f"{entry['train_seconds']:.0f}",
    )
