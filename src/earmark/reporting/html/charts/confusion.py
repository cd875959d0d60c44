"""The confusion matrix, as a heat map and as an alluvial diagram."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from earmark.reporting.confusions import Confusions
from earmark.reporting.html.charts.figure import NEUTRAL_COLOUR, Chart, label_px, layout, plain, positions, short

CORRECT_COLOUR = "rgba(128, 138, 150, 0.30)"
ERROR_COLOUR = "rgba(217, 95, 30, 0.75)"
_NODE_PAD_PX = 8


def confusion_chart(confusions: Confusions) -> Chart:
    """Return the confusion matrix as a heat map: coloured by share of the true label, with the clips in the cells."""
    import plotly.graph_objects as go

    names, counts, shares = confusions.labels, confusions.counts, confusions.shares
    cell_px = int(np.clip(760 / max(len(names), 1), 26, 84))
    side_px = cell_px * len(names)
    margin_px = {"l": label_px(names) + 34, "t": round(0.8 * label_px(names)) + 44, "r": 84, "b": 12}
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
    figure = go.Figure(heatmap, layout(height=side_px + margin_px["t"] + margin_px["b"], margin=margin_px))
    figure.update_layout(coloraxis={"cmin": 0, "cmax": 1, "colorbar": _share_bar(side_px)})
    figure.update_xaxes(positions(names, "predicted"), side="top", tickangle=-50)
    figure.update_yaxes(positions(names, "true"), autorange="reversed")
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
    side_px = max(label_px(names) + label_px([f"{clips:,}" for side in totals for clips in side]) + 28, 76)
    margin_px = {"l": side_px, "r": side_px, "t": 30, "b": 8}
    sankey = go.Sankey(
        arrangement="fixed", node=_nodes(names, sides, centres), link=_links(counts, *sides), valueformat=",d"
    )
    figure = go.Figure(sankey, layout(height=plot_px + margin_px["t"] + margin_px["b"], margin=margin_px))
    for right, (side, clips, centre) in enumerate(zip(sides, totals, centres, strict=True)):
        place = {"x": right, "xanchor": ("right", "left")[right], "xshift": (-10, 10)[right], "showarrow": False}
        texts = [f"{short(names[int(i)])}  <b>{n:,}</b>" for i, n in zip(side, clips, strict=True)]
        for text, y in [(("true", "predicted")[right], -18 / plot_px), *zip(texts, centre, strict=True)]:
            figure.add_annotation(text=text, y=1 - y, **place)
    figure.update_annotations(xref="paper", yref="paper", yanchor="middle")
    return Chart(figure, 2 * side_px + 150, 960)


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
        "color": NEUTRAL_COLOUR,
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
