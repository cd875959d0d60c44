"""Shared by all charts: layout, literal text for Plotly, and the light and dark themes."""

from __future__ import annotations

import html
import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import plotly.graph_objects as go

NEUTRAL_COLOUR = "rgb(128, 138, 150)"
# Each has a contrast of at least 3 against the light and the dark page.
SERIES_COLOURS = ("#2f7fc1", "#d2611c", "#2b9468", "#9a63c9", "#b0811a", "#cf5580")
_SEQUENTIAL = {
    "light": ("#f3f5f7", "#cfe0ef", "#8fbbdf", "#3f86c2", "#0b4a82"),
    "dark": ("#1d2329", "#1f3f5c", "#2a6799", "#4f9bd6", "#a9d8ff"),
}
_INK = {"light": ("#1b2127", "#dfe3e8", "#ffffff"), "dark": ("#e4e8ec", "#333b44", "#262d35")}

_FONT = "system-ui, sans-serif"
# Unicode classes of characters after which a line would run from right to left.
_TURNS_DIRECTION = frozenset({"R", "AL", "RLE", "RLO", "RLI"})
_LABEL_CHARACTERS = 18
_CHARACTER_PX = 7.2


@dataclass(frozen=True)
class Chart:
    """A figure and the widths, in CSS pixels, between which it reads well: below, it scrolls; above, it leaves room."""

    figure: go.Figure
    min_width_px: int = 280
    max_width_px: int = 2000

    def to_json(self) -> dict[str, Any]:
        """Return the figure as plain JSON values: ``data`` and ``layout``."""
        content: dict[str, Any] = json.loads(self.figure.to_json())
        return content


def plain(text: str) -> str:
    """Return text that Plotly shows literally, without tags, entities, ``%{template}``; its direction is isolated."""
    if not _TURNS_DIRECTION.isdisjoint(map(unicodedata.bidirectional, text)):
        text = f"\N{FIRST STRONG ISOLATE}{text}\N{POP DIRECTIONAL ISOLATE}"
    return html.escape(text, quote=False).replace("{", "&#123;")


def short(text: str) -> str:
    """Return text for Plotly, shortened to the room of a chart; hover text and tables have the full text."""
    return plain(text if len(text) <= _LABEL_CHARACTERS else f"{text[: _LABEL_CHARACTERS - 1]}…")


def label_px(names: Sequence[str]) -> int:
    """Return the width in CSS pixels that the longest of the names takes as `short` cuts it."""
    columns = (sum(_columns(c) for c in name[:_LABEL_CHARACTERS]) for name in names)
    return round(max(columns, default=0) * _CHARACTER_PX)


def layout(height: int, margin: dict[str, int]) -> dict[str, Any]:
    """Return the layout of every chart: a height and margins in CSS pixels, a transparent ground, no dragging."""
    return {
        "template": "none",
        "height": height,
        "margin": margin,
        "font": {"family": _FONT, "size": 12},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hoverlabel": {"align": "left", "namelength": -1, "font": {"family": _FONT}},
        # On a touch screen, dragging over a chart scrolls the page.
        "dragmode": False,
    }


def positions(names: Sequence[str], title: str) -> dict[str, Any]:
    """Return an axis with the names at 0, 1, …: not a category axis, to which labels such as "1" mean something."""
    ticks = {"tickmode": "array", "tickvals": list(range(len(names))), "ticktext": [short(name) for name in names]}
    bare = {"fixedrange": True, "showgrid": False, "zeroline": False}
    return {"type": "linear", "title": {"text": title, "standoff": 8}, **ticks, **bare}


def accuracy_axis() -> dict[str, Any]:
    """Return an axis of accuracies that is scaled to the data, but never extends below 0 or above 1."""
    within = {"autorangeoptions": {"clipmin": -0.02, "clipmax": 1.02}}
    return {"title": {"text": "accuracy", "standoff": 4}, "tickformat": ".3~%", "hoverformat": ".1%", **within}


def themes() -> dict[str, dict[str, Any]]:
    """Return the Plotly templates "light" and "dark" as plain JSON values."""
    return {scheme: _theme(scheme) for scheme in ("light", "dark")}


def _theme(scheme: str) -> dict[str, Any]:
    ink, grid, surface = _INK[scheme]
    axis = {"gridcolor": grid, "linecolor": grid, "tickcolor": grid}
    return {
        "data": {"heatmap": [{"type": "heatmap", "colorscale": _stops(scheme, 1)}]},
        "layout": {
            "font": {"color": ink},
            # Squared stops make a share of a few percent visible.
            "coloraxis": {"colorscale": _stops(scheme, 2)},
            "hoverlabel": {"bgcolor": surface, "bordercolor": grid, "font": {"color": ink}},
            "xaxis": axis,
            "yaxis": axis,
        },
    }


def _stops(scheme: str, power: int) -> list[list[Any]]:
    colours = _SEQUENTIAL[scheme]
    return [[(i / (len(colours) - 1)) ** power, colour] for i, colour in enumerate(colours)]


def _columns(character: str) -> int:
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
