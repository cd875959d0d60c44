"""How accuracy falls as background noise rises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class NoiseCurves:
    """Accuracy of candidates in background noise.

    levels: "clean" and signal-to-noise ratios as people read them, from little noise to much; accuracies: for each
    candidate that was measured in noise, 0 to 1 at each level.
    """

    levels: list[str]
    accuracies: dict[str, list[float]]


def noise_curves(scores: Mapping[str, Mapping]) -> NoiseCurves:
    """The curves of those candidates whose scores have `accuracy_in_noise`: accuracy, 0 to 1, by SNR in decibels."""
    measured = {name: of for name, of in scores.items() if of.get("accuracy_in_noise")}
    keys = sorted({key for of in measured.values() for key in of["accuracy_in_noise"]}, reverse=True)
    return NoiseCurves(
        ["clean", *(f"{key} dB" for key in keys)],
        {
            name: [of["accuracy"], *(of["accuracy_in_noise"].get(key, float("nan")) for key in keys)]
            for name, of in measured.items()
        },
    )
