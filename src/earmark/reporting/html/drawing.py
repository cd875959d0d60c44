"""The charts of the report, by the id of their element in the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from earmark.reporting import formats
from earmark.reporting.confusions import Confusions
from earmark.reporting.html import charts
from earmark.reporting.html.charts import Chart
from earmark.reporting.noise import NoiseCurves
from earmark.reporting.records import CandidateScores, Mistake

if TYPE_CHECKING:
    import pandas as pd


def of_candidates(
    candidates: Sequence[CandidateScores], scores: Mapping[str, Mapping[str, Any]], noise: NoiseCurves
) -> dict[str, Chart]:
    """Return the charts that compare candidates; scores: of the reporting split, by candidate."""
    histories = {candidate.name: candidate.history for candidate in candidates}
    sizes = {candidate.name: candidate.metrics["saved_bytes"] for candidate in candidates}
    latencies = {candidate.name: candidate.metrics["latency_ms_p50"] for candidate in candidates}
    drawn = {
        "size-chart": charts.trade_off_chart(sizes, scores, "saved size", formats.size),
        "latency-chart": charts.trade_off_chart(latencies, scores, "time per clip", formats.milliseconds),
        "loss-chart": charts.curve_chart(histories, ["validation_loss", "loss"], ".2~f"),
        "accuracy-chart": charts.curve_chart(histories, ["validation_accuracy"], ".1~%"),
    }
    if noise.accuracies:
        drawn["noise-chart"] = charts.noise_chart(noise.levels, noise.accuracies)
    return drawn


def of_best(
    confusions: Confusions, calibration: pd.DataFrame, slices: Mapping[str, pd.DataFrame], accuracy: float
) -> dict[str, Chart]:
    """Return the charts of the best candidate on the reporting split; accuracy: of all its clips."""
    return {
        "confusion-chart": charts.confusion_chart(confusions),
        "flow-chart": charts.flow_chart(confusions),
        "calibration-chart": charts.calibration_chart(calibration),
        **{f"{name}-chart": charts.slice_chart(bands, accuracy) for name, bands in slices.items()},
    }


def of_mistakes(mistakes: Sequence[Mistake]) -> dict[str, Chart]:
    """Return a spectrogram for each, numbered from 1."""
    return {
        f"mistake-{number}-chart": charts.spectrogram_chart(mistake.spectrogram, mistake.seconds)
        for number, mistake in enumerate(mistakes, 1)
    }
