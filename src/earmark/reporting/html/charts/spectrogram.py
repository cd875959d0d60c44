"""The spectrogram of one clip."""

from __future__ import annotations

import numpy as np

from earmark.reporting.html.charts.figure import Chart, layout

_LEVELS = 255


def spectrogram_chart(spectrogram: np.ndarray, seconds: float) -> Chart:
    """Return a spectrogram over time, low bands below, from its own quietest to its own loudest value.

    spectrogram: (frames, bands) float, larger is louder; seconds: what the frames span.
    """
    import plotly.graph_objects as go

    step = seconds / len(spectrogram)
    heatmap = go.Heatmap(
        # One byte a value keeps the page small, and is more than a screen can show.
        z=_levels(spectrogram).T,
        x0=step / 2,
        dx=step,
        zmin=0,
        zmax=_LEVELS,
        showscale=False,
        hovertemplate="%{x:.2f} s, band %{y}<extra></extra>",
    )
    figure = go.Figure(heatmap, layout(height=170, margin={"l": 14, "r": 14, "t": 4, "b": 24}))
    bare = {"fixedrange": True, "showgrid": False, "zeroline": False}
    ticks = [0, seconds / 2, seconds]
    figure.update_xaxes(range=[0, seconds], tickvals=ticks, ticktext=[f"{tick:.3g} s" for tick in ticks], **bare)
    figure.update_yaxes(showticklabels=False, ticks="", **bare)
    return Chart(figure, min_width_px=200)


def _levels(values: np.ndarray) -> np.ndarray:
    quietest, loudest = float(values.min()), float(values.max())
    scale = _LEVELS / (loudest - quietest) if loudest > quietest else 0.0
    return np.round((values - quietest) * scale).astype(np.uint8)
