"""How accuracy falls as background noise rises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class NoiseCurves:
    """Accuracy of candidates in background noise.

    Attributes:
        levels: "clean", then signal-to-noise ratios as text, from little noise to much.
        accuracies: by candidate, 0 to 1 at each level. Candidates that were not measured in noise are left out.
    """

    levels: list[str]
    accuracies: dict[str, list[float]]


def noise_curves(scores: Mapping[str, Mapping[str, Any]]) -> NoiseCurves:
    """Returns the curves of the candidates whose scores have `accuracy_in_noise`: accuracy, 0 to 1, by SNR in dB."""
    measured = {name: metrics for name, metrics in scores.items() if metrics.get("accuracy_in_noise")}
    ratios = sorted({snr for metrics in measured.values() for snr in metrics["accuracy_in_noise"]}, reverse=True)
    return NoiseCurves(
        ["clean", *(f"{snr} dB" for snr in ratios)],
        {
            name: [metrics["accuracy"], *(metrics["accuracy_in_noise"].get(snr, float("nan")) for snr in ratios)]
            for name, metrics in measured.items()
        },
    )
