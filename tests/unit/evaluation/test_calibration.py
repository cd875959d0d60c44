"""Reliability and expected calibration error."""

import numpy as np
import pandas as pd
import pytest

from earmark.evaluation import calibration


def predictions(probability: list[float], right: list[bool]) -> pd.DataFrame:
    predicted = ["yes" if is_right else "no" for is_right in right]
    return pd.DataFrame({"label": "yes", "predicted": predicted, "probability": probability})


def test_a_classifier_that_means_what_it_says_has_no_error():
    curve = calibration.reliability(predictions([0.75] * 4, [True, True, True, False]))
    assert curve[["confidence", "accuracy", "clips"]].values.tolist() == [[0.75, 0.75, 4]]
    assert calibration.expected_calibration_error(curve) == 0


def test_the_error_is_the_mean_distance_over_clips():
    curve = calibration.reliability(predictions([0.9] * 3 + [0.5], [False, False, False, True]))
    assert calibration.expected_calibration_error(curve) == pytest.approx((3 * 0.9 + 0.5) / 4)


def test_bins_hold_their_upper_bound_and_the_first_one_zero():
    curve = calibration.reliability(predictions([0.0, 1 / 15, 1.0], [True, True, True]))
    assert curve["clips"].tolist() == [2, 1]
    assert curve["high"].tolist() == pytest.approx([1 / 15, 1.0])


def test_it_is_what_a_loop_over_bins_says():
    generator = np.random.default_rng(0)
    frame = predictions(generator.uniform(size=500).tolist(), (generator.uniform(size=500) < 0.4).tolist())
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = frame[(frame["probability"] > low) & (frame["probability"] <= low + 1 / 15)]
        if len(inside):
            accuracy = (inside["label"] == inside["predicted"]).mean()
            expected += len(inside) / 500 * abs(accuracy - inside["probability"].mean())
    curve = calibration.reliability(frame)
    assert curve["clips"].sum() == 500
    assert calibration.expected_calibration_error(curve) == pytest.approx(expected)
