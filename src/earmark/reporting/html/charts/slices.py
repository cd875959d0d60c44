"""Accuracy by a property of the clips, such as their loudness."""

from __future__ import annotations

from typing import TYPE_CHECKING

from earmark.reporting.formats import interval
from earmark.reporting.html.charts.figure import (
    NEUTRAL_COLOUR,
    SERIES_COLOURS,
    Chart,
    accuracy_axis,
    label_px,
    layout,
    plain,
    positions,
)

if TYPE_CHECKING:
    import pandas as pd


def slice_chart(bands: pd.DataFrame, accuracy: float) -> Chart:
    """Return a point with its 95 % interval for each band, from top to bottom, and a line at the accuracy of all clips.

    bands: a row a band: band (text), clips, accuracy, low, high (0 to 1).
    """
    import plotly.graph_objects as go

    names = bands["band"].astype(str).tolist()
    margin_px = {"l": label_px(names) + 20, "r": 16, "t": 10, "b": 44}
    figure = go.Figure(layout=layout(height=32 * len(names) + 74, margin=margin_px))
    figure.add_scatter(
        x=bands["accuracy"].tolist(),
        y=list(range(len(names))),
        customdata=_hover_points(bands),
        error_x=_interval(bands) | {"thickness": 1.5, "width": 4},
        mode="markers",
        marker={"size": 9, "color": SERIES_COLOURS[0]},
        hovertemplate="%{customdata[0]}<br>%{x} (%{customdata[2]})<br>clips: %{customdata[1]}<extra></extra>",
    )
    figure.add_vline(x=accuracy, line={"color": NEUTRAL_COLOUR, "width": 1.5, "dash": "dot"})
    figure.update_xaxes(accuracy_axis(), nticks=6, fixedrange=True, zeroline=False)
    figure.update_yaxes(positions(names, ""), range=[len(names) - 0.5, -0.5])
    return Chart(figure, min_width_px=260, max_width_px=620)


def _interval(bands: pd.DataFrame) -> dict[str, list[float]]:
    above, below = bands["high"] - bands["accuracy"], bands["accuracy"] - bands["low"]
    return {"array": above.tolist(), "arrayminus": below.tolist()}


def _hover_points(bands: pd.DataFrame) -> list[list[str]]:
    return [
        [plain(str(row.band)), f"{row.clips:,}", interval(row.low, row.high)] for row in bands.itertuples(index=False)
    ]
