"""Figures against hand-made cases and scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from earmark.scoring import gate, metrics


@pytest.fixture
def predictions():
    generator = np.random.default_rng(3)
    label = generator.choice(["a", "b", "c"], 300)
    wrong = generator.random(300) < 0.2
    predicted = np.where(wrong, generator.choice(["a", "b", "c"], 300), label)
    return pd.DataFrame({"label": label, "predicted": predicted, "speaker": [f"s{i // 10}" for i in range(300)]})


def test_accuracy_and_macro_f1(predictions):
    found = metrics.summary(predictions, seed=1)
    assert found["accuracy"] == (predictions["label"] == predictions["predicted"]).mean()
    assert found["macro_f1"] == pytest.approx(f1_score(predictions["label"], predictions["predicted"], average="macro"))
    assert (found["clips"], found["speakers"]) == (300, 30)


def test_the_interval_holds_the_accuracy_and_is_reproducible(predictions):
    low, high = metrics.accuracy_interval(predictions, seed=1)
    assert low < metrics.summary(predictions, seed=1)["accuracy"] < high
    assert [low, high] == metrics.accuracy_interval(predictions, seed=1)


def test_the_interval_is_wider_where_speakers_differ(predictions):
    """Clips of one speaker stand or fall together: with the same accuracy, the interval must know."""
    together = predictions.assign(predicted="x").copy()
    half = together["speaker"].isin([f"s{i}" for i in range(15)])
    together.loc[half, "predicted"] = together.loc[half, "label"]
    apart = predictions.assign(predicted="x").copy()
    apart.loc[::2, "predicted"] = apart.loc[::2, "label"]

    def width(frame):
        low, high = metrics.accuracy_interval(frame, 1)
        return high - low

    assert width(together) > 3 * width(apart)


def test_a_label_never_predicted_has_zeros_and_no_nan():
    frame = pd.DataFrame({"label": ["a", "b"], "predicted": ["a", "a"], "speaker": ["s", "t"]})
    row = metrics.per_label(frame).set_index("label").loc["b"]
    assert (row["precision"], row["recall"], row["f1"], row["clips"]) == (0, 0, 0, 1)


@pytest.mark.parametrize(
    ("champion", "challenger", "promoted"), [("aab", "abb", True), ("abb", "aab", False), ("aba", "aab", False)]
)
def test_only_more_right_answers_take_the_champions_place(champion, challenger, promoted):
    truth = np.array(list("abb"))
    verdict = gate.verdict(truth, np.array(list(champion)), np.array(list(challenger)))
    assert verdict.promoted is promoted
    assert verdict.alias == ("champion" if promoted else "challenger")
