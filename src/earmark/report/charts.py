"""The charts of the report as Plotly figures, without colours that depend on light or dark: `themes` has those."""

from __future__ import annotations

import html
import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from earmark.report.confusions import Confusions

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

CORRECT_COLOUR = "rgba(128, 138, 150, 0.30)"
ERROR_COLOUR = "rgba(217, 95, 30, 0.75)"
# Each has a contrast of at least 3 against the light and the dark page.
_SERIES_COLOURS = ("#2f7fc1", "#d2611c", "#2b9468", "#9a63c9", "#b0811a", "#cf5580")
_SERIES_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star")
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
_NODE_PAD_PX = 8


@dataclass(frozen=True)
class Chart:
    """A figure and the widths, in CSS pixels, between which it reads well: below, it scrolls; above, it leaves room."""

    figure: go.Figure
    min_width_px: int = 280
    max_width_px: int = 2000

    def to_json(self) -> dict[str, Any]:
        """Return the figure as plain JSON values: ``data`` and ``layout``."""
        return json.loads(self.figure.to_json())


def plain(text: str) -> str:
    """Return text such that Plotly shows it as it is: no tags, entities or ``%{template}``, its direction its own."""
    if not _TURNS_DIRECTION.isdisjoint(map(unicodedata.bidirectional, text)):
        text = f"\N{FIRST STRONG ISOLATE}{text}\N{POP DIRECTIONAL ISOLATE}"
    return html.escape(text, quote=False).replace("{", "&#123;")


def confusion_chart(confusions: Confusions) -> Chart:
    """Return the confusion matrix as a heat map: coloured by share of the true label, with the clips in the cells."""
    import plotly.graph_objects as go

    names, counts, shares = confusions.labels, confusions.counts, confusions.shares
    cell_px = int(np.clip(760 / max(len(names), 1), 26, 84))
    side_px = cell_px * len(names)
    margin_px = {"l": _label_px(names) + 34, "t": round(0.8 * _label_px(names)) + 44, "r": 84, "b": 12}
    heatmap = go.Heatmap(
        z=shares.tolist(),
        text=[[str(clips) if clips else "" for clips in row] for row in counts.tolist()],
        customdata=_hover_cells(confusions),
        texttemplate="%{text}",
        textfont={"size": 9 if cell_px < 32 else 12},
        hovertemplate="true %{customdata[0]}<br>predicted %{customdata[1]}<br>%{customdata[2]}<extra></extra>",
        xgap=1,
        ygap=1,
        coloraxis="coloraxis",
    )
    figure = go.Figure(heatmap, _layout(height=side_px + margin_px["t"] + margin_px["b"], margin=margin_px))
    figure.update_layout(coloraxis={"cmin": 0, "cmax": 1, "colorbar": _share_bar(side_px)})
    figure.update_xaxes(_label_axis(names, "predicted"), side="top", tickangle=-50)
    figure.update_yaxes(_label_axis(names, "true"), autorange="reversed")
    around_px = margin_px["l"] + margin_px["r"]
    return Chart(figure, min(cell_px, 32) * len(names) + around_px, side_px + around_px)


def flow_chart(confusions: Confusions) -> Chart:
    """Return the alluvial diagram: clips flow from their true label (left) to the predicted one (right).

    Only the pairs that occur are links; a label without clips on a side has no node there. The order is that of labels.
    """
    import plotly.graph_objects as go

    counts, names = confusions.counts, confusions.labels
    sides = [np.flatnonzero(counts.sum(axis=axis)) for axis in (1, 0)]
    totals = [counts.sum(axis=axis)[side] for axis, side in zip((1, 0), sides, strict=True)]
    plot_px = max(27 * len(names), 220)
    centres = _stack(totals, _NODE_PAD_PX / plot_px)
    side_px = max(_label_px(names) + _label_px([f"{clips:,}" for side in totals for clips in side]) + 28, 76)
    margin_px = {"l": side_px, "r": side_px, "t": 30, "b": 8}
    sankey = go.Sankey(
        arrangement="fixed", node=_nodes(names, sides, centres), link=_links(counts, *sides), valueformat=",d"
    )
    figure = go.Figure(sankey, _layout(height=plot_px + margin_px["t"] + margin_px["b"], margin=margin_px))
    for right, (side, clips, centre) in enumerate(zip(sides, totals, centres, strict=True)):
        place = {"x": right, "xanchor": ("right", "left")[right], "xshift": (-10, 10)[right], "showarrow": False}
        texts = [f"{_short(names[i])}  <b>{n:,}</b>" for i, n in zip(side, clips, strict=True)]
        for text, y in [(("true", "predicted")[right], -18 / plot_px), *zip(texts, centre, strict=True)]:
            figure.add_annotation(text=text, y=1 - y, **place)
    figure.update_annotations(xref="paper", yref="paper", yanchor="middle")
    return Chart(figure, 2 * side_px + 150, 960)


def curve_chart(histories: Mapping[str, pd.DataFrame], columns: Sequence[str], tick_format: str) -> Chart:
    """Return lines over the epochs, one colour and marker a candidate: the first column solid, a second one dotted."""
    import plotly.graph_objects as go

    figure = go.Figure(layout=_layout(height=340, margin={"l": 56, "r": 12, "t": 12, "b": 84}))
    for index, (name, history) in enumerate(histories.items()):
        colour, symbol = _SERIES_COLOURS[index % len(_SERIES_COLOURS)], _SERIES_SYMBOLS[index % len(_SERIES_SYMBOLS)]
        for dash, column in zip(("solid", "dot"), columns, strict=False):
            figure.add_scatter(
                x=history["epoch"].tolist(),
                y=history[column].tolist(),
                name=_short(name),
                legendgroup=index,
                showlegend=dash == "solid",
                hovertemplate=f"{plain(name)}<br>{column.replace('_', ' ')}, epoch %{{x}}: %{{y}}<extra></extra>",
                mode="lines+markers" if dash == "solid" else "lines",
                line={"color": colour, "width": 2, "dash": dash},
                marker={"symbol": symbol, "size": 6},
            )
    epochs = max((len(history) for history in histories.values()), default=0)
    figure.update_xaxes(title={"text": "epoch", "standoff": 4}, zeroline=False, dtick=1 if epochs <= 10 else None)
    figure.update_yaxes(rangemode="tozero", tickformat=tick_format, hoverformat=tick_format, zeroline=False)
    figure.update_layout(legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0})
    return Chart(figure.update_xaxes(fixedrange=True).update_yaxes(fixedrange=True))


def themes() -> dict[str, dict[str, Any]]:
    """Return the Plotly templates "light" and "dark" as plain JSON values."""
    return {scheme: _theme(scheme) for scheme in ("light", "dark")}


def _theme(scheme: str) -> dict[str, Any]:
    ink, grid, surface = _INK[scheme]
    colours = _SEQUENTIAL[scheme]
    # Squared stops: a share of a few percent must already be seen.
    stops = [[(i / (len(colours) - 1)) ** 2, colour] for i, colour in enumerate(colours)]
    axis = {"gridcolor": grid, "linecolor": grid, "tickcolor": grid}
    return {
        "layout": {
            "font": {"color": ink},
            "colorscale": {"sequential": stops},
            "hoverlabel": {"bgcolor": surface, "bordercolor": grid, "font": {"color": ink}},
            "xaxis": axis,
            "yaxis": axis,
        }
    }


def _layout(height: int, margin: dict[str, int]) -> dict[str, Any]:
    return {
        "template": "none",
        "height": height,
        "margin": margin,
        "font": {"family": _FONT, "size": 12},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hoverlabel": {"align": "left", "namelength": -1, "font": {"family": _FONT}},
        # A finger that moves over a chart scrolls the page.
        "dragmode": False,
    }


def _label_axis(names: Sequence[str], title: str) -> dict[str, Any]:
    """Positions with texts, not a category axis, to which labels such as "1" or "__proto__" mean something."""
    ticks = {"tickmode": "array", "tickvals": list(range(len(names))), "ticktext": [_short(name) for name in names]}
    bare = {"fixedrange": True, "showgrid": False, "zeroline": False}
    return {"type": "linear", "title": {"text": title, "standoff": 8}, **ticks, **bare}


def _share_bar(side_px: int) -> dict[str, Any]:
    title = {"text": "share of<br>true label", "font": {"size": 11}}
    place = {"y": 1, "yanchor": "top", "len": min(side_px, 320), "lenmode": "pixels"}
    return {"tickformat": ".0%", "thickness": 10, "outlinewidth": 0, "title": title, **place}


def _hover_cells(confusions: Confusions) -> list[list[list[str]]]:
    names = [plain(name) for name in confusions.labels]
    rows = zip(names, confusions.counts.tolist(), confusions.shares.tolist(), strict=True)
    return [
        [[true, name, f"clips: {n:,} ({share:.1%})"] for name, n, share in zip(names, clips, shares, strict=True)]
        for true, clips, shares in rows
    ]


def _nodes(names: Sequence[str], sides: list[np.ndarray], centres: list[list[float]]) -> dict[str, Any]:
    return {
        "customdata": [plain(names[i]) for side in sides for i in side],
        # The names stand beside the diagram, where no band runs through them.
        "label": [""] * sum(map(len, sides)),
        # Plotly takes a coordinate of 0 for none.
        "x": [0.001] * len(sides[0]) + [0.999] * len(sides[1]),
        "y": [y for side in centres for y in side],
        "pad": _NODE_PAD_PX,
        "thickness": 10,
        "color": "rgb(128, 138, 150)",
        "line": {"width": 0},
        "hovertemplate": "%{customdata}<br>clips: %{value}<extra></extra>",
    }


def _links(counts: np.ndarray, sources: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    pairs = [(s, t) for s in range(len(sources)) for t in range(len(targets)) if counts[sources[s], targets[t]]]
    correct = [sources[s] == targets[t] for s, t in pairs]
    return {
        "source": [s for s, _ in pairs],
        "target": [len(sources) + t for _, t in pairs],
        "value": [int(counts[sources[s], targets[t]]) for s, t in pairs],
        "color": [CORRECT_COLOUR if same else ERROR_COLOUR for same in correct],
        "hovertemplate": "true %{source.customdata}<br>predicted %{target.customdata}"
        "<br>clips: %{value}<extra></extra>",
    }


def _stack(totals: list[np.ndarray], pad: float) -> list[list[float]]:
    """Return the nodes' centres from 0 (top) to 1 for each side: heights by total on one scale, pad between them."""
    rows = max(map(len, totals))
    scale = (1 - (rows - 1) * pad) / max(int(totals[0].sum()), 1)
    return [[float(y) for y in (np.cumsum(side) - side / 2) * scale + np.arange(len(side)) * pad] for side in totals]


def _short(text: str) -> str:
    """Return text for Plotly, cut where a chart has no room for it; the hover text and the tables have all of it."""
    return plain(text if len(text) <= _LABEL_CHARACTERS else f"{text[: _LABEL_CHARACTERS - 1]}…")


def _label_px(names: Sequence[str]) -> int:
    columns = (sum(_columns(c) for c in name[:_LABEL_CHARACTERS]) for name in names)
    return round(max(columns, default=0) * _CHARACTER_PX)


def _columns(character: str) -> int:
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
