"""Charts of all candidates; each candidate has the same colour and marker in all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from earmark.reporting import formats
from earmark.reporting.html.charts.figure import SERIES_COLOURS, Chart, accuracy_axis, layout, plain, positions, short

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

# One more than there are colours, so that the seventh candidate has the first one's colour and another's marker.
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star", "pentagon")


def curve_chart(histories: Mapping[str, pd.DataFrame], columns: Sequence[str], tick_format: str) -> Chart:
    """Return lines over the epochs: the first column solid, a second one dotted."""
    figure = _figure()
    for index, (name, history) in enumerate(histories.items()):
        for dash, column in zip(("solid", "dot"), columns, strict=False):
            hover = f"{plain(name)}<br>{column.replace('_', ' ')}, epoch %{{x}}: %{{y}}<extra></extra>"
            style = _style(index, name, hover, lines=True)
            style["line"]["dash"] = dash
            if dash == "dot":
                style |= {"mode": "lines", "showlegend": False}
            figure.add_scatter(x=history["epoch"].tolist(), y=history[column].tolist(), **style)
    epochs = max((len(history) for history in histories.values()), default=0)
    figure.update_xaxes(title={"text": "epoch", "standoff": 4}, zeroline=False, dtick=1 if epochs <= 10 else None)
    figure.update_yaxes(rangemode="tozero", tickformat=tick_format, hoverformat=tick_format)
    return Chart(figure)


def trade_off_chart(
    costs: Mapping[str, float], scores: Mapping[str, Mapping[str, Any]], title: str, shown: Callable[[float], str]
) -> Chart:
    """Return accuracy with its 95 % interval against what it costs, on a logarithmic axis: a point a candidate.

    costs: positive, by candidate; scores: {"accuracy": 0 to 1, "accuracy_ci95": [low, high]} of the same candidates;
    shown: a cost as people read it.
    """
    figure = _figure()
    for index, (name, cost) in enumerate(costs.items()):
        accuracy, (low, high) = scores[name]["accuracy"], scores[name]["accuracy_ci95"]
        hover = f"{plain(name)}<br>{shown(cost)}: %{{y}} ({formats.interval(low, high)})<extra></extra>"
        interval = {"array": [high - accuracy], "arrayminus": [accuracy - low], "thickness": 1.5, "width": 4}
        figure.add_scatter(x=[cost], y=[accuracy], error_y=interval, **_style(index, name, hover, lines=False))
    low, high = min(costs.values()) / 1.7, max(costs.values()) * 1.7
    ticks = _ticks(low, high)
    figure.update_xaxes(type="log", range=np.log10([low, high]).tolist(), title={"text": title, "standoff": 8})
    figure.update_xaxes(tickvals=ticks, ticktext=[shown(tick) for tick in ticks])
    figure.update_yaxes(accuracy_axis())
    return Chart(figure)


def noise_chart(levels: Sequence[str], accuracies: Mapping[str, Sequence[float]]) -> Chart:
    """Return a line a candidate: its accuracy at each level of background noise, in the order of levels."""
    figure = _figure()
    for index, (name, accuracy) in enumerate(accuracies.items()):
        hover = f"{plain(name)}<br>%{{x}}: %{{y}}<extra></extra>"
        figure.add_scatter(x=list(range(len(levels))), y=list(accuracy), **_style(index, name, hover, lines=True))
    figure.update_xaxes(positions(levels, "signal-to-noise ratio"))
    figure.update_yaxes(accuracy_axis())
    return Chart(figure, max_width_px=760)


def _figure() -> go.Figure:
    import plotly.graph_objects as go

    legend = {"orientation": "h", "yref": "container", "y": 1, "yanchor": "top", "x": 0}
    figure = go.Figure(layout=layout(height=340, margin={"l": 64, "r": 24, "t": 56, "b": 52}))
    figure.update_layout(legend=legend, showlegend=True)
    return figure.update_xaxes(fixedrange=True).update_yaxes(fixedrange=True, zeroline=False)


def _ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times the powers of ten from low to high, or those powers alone where they are enough."""
    powers = [10.0**k for k in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    within = [[step * power for power in powers for step in steps] for steps in ((1,), (1, 2, 5))]
    few, many = ([tick for tick in ticks if low <= tick <= high] for ticks in within)
    return few if len(few) > 3 else many


def _style(index: int, name: str, hover: str, lines: bool) -> dict[str, Any]:
    colour, symbol = SERIES_COLOURS[index % len(SERIES_COLOURS)], _SYMBOLS[index % len(_SYMBOLS)]
    return {
        "name": short(name),
        "legendgroup": index,
        "mode": "lines+markers" if lines else "markers",
        "line": {"color": colour, "width": 2},
        "marker": {"symbol": symbol, "size": 6 if lines else 10, "color": colour},
        "hovertemplate": hover,
    }
