"""The reliability curve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from earmark.reporting.html.charts.figure import NEUTRAL_COLOUR, SERIES_COLOURS, Chart, layout

if TYPE_CHECKING:
    import pandas as pd


def calibration_chart(bins: pd.DataFrame) -> Chart:
    """Return the reliability curve over the clips in each bin of confidence (Guo et al. 2017, section 2).

    bins: a row a bin: low, high, confidence (mean), accuracy (all 0 to 1), clips.
    """
    import plotly.graph_objects as go

    figure = go.Figure(layout=layout(height=430, margin={"l": 64, "r": 16, "t": 20, "b": 48}))
    diagonal = {"color": NEUTRAL_COLOUR, "width": 1.5, "dash": "dot"}
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line=diagonal, hoverinfo="skip")
    figure.add_scatter(
        x=bins["confidence"].tolist(),
        y=bins["accuracy"].tolist(),
        customdata=bins["clips"].tolist(),
        mode="lines+markers",
        line={"color": SERIES_COLOURS[0], "width": 2},
        marker={"size": 8},
        hovertemplate="confidence %{x:.1%}: %{y:.1%} right<br>clips: %{customdata:,d}<extra></extra>",
    )
    figure.add_bar(
        x=((bins["low"] + bins["high"]) / 2).tolist(),
        y=bins["clips"].tolist(),
        width=(0.92 * (bins["high"] - bins["low"])).tolist(),
        yaxis="y2",
        marker={"color": NEUTRAL_COLOUR, "line": {"width": 0}},
        hovertemplate="clips: %{y:,d}<extra></extra>",
    )
    bare = {"fixedrange": True, "zeroline": False}
    figure.update_xaxes(range=[-0.02, 1.02], anchor="y2", tickformat=".0%", title="confidence", **bare)
    figure.update_layout(
        yaxis={"domain": [0.32, 1], "range": [-0.02, 1.04], "tickformat": ".0%", "title": "accuracy", **bare},
        yaxis2={"domain": [0, 0.22], "rangemode": "tozero", "title": "clips", "nticks": 4, "tickformat": "~s", **bare},
        showlegend=False,
    )
    return Chart(figure, max_width_px=620)
