"""Figures against hand-made cases and scikit-learn."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from earmark.evaluation import metrics
from earmark.params import SILENCE


@pytest.fixture
def predictions():
    generator = np.random.default_rng(3)
    label = generator.choice(["a", "b", "c"], 300)
    wrong = generator.random(300) < 0.2
    predicted = np.where(wrong, generator.choice(["a", "b", "c"], 300), label)
    return pd.DataFrame({"label": label, "predicted": predicted, "speaker": [f"s{i // 10}" for i in range(300)]})


def test_accuracy_and_macro_f1(predictions):
    summary = metrics.summary(predictions, seed=1)
    assert summary["accuracy"] == (predictions["label"] == predictions["predicted"]).mean()
    expected = f1_score(predictions["label"], predictions["predicted"], average="macro")
    assert summary["macro_f1"] == pytest.approx(expected)
    assert (summary["clips"], summary["speakers"]) == (300, 30)


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


def test_the_interval_of_macro_f1_is_that_of_speakers_drawn_one_by_one(predictions):
    names = sorted({*predictions["label"], *predictions["predicted"]})
    pairs = predictions[["label", "predicted"]].apply(lambda column: column.map(names.index)).to_numpy()
    of_speaker = [pairs[rows] for rows in predictions.groupby("speaker").indices.values()]
    draws = np.random.default_rng(1).integers(len(of_speaker), size=(metrics.RESAMPLES, len(of_speaker)))
    scores = []
    for draw in draws:
        label, predicted = np.concatenate([of_speaker[at] for at in draw]).T
        right, answers, true = (
            np.bincount(of, minlength=len(names)) for of in (label[label == predicted], predicted, label)
        )
        scores.append((2 * right / (answers + true).clip(1))[true > 0].mean())
    with_sklearn = f1_score(label, predicted, average="macro", labels=np.unique(label))
    assert scores[-1] == pytest.approx(with_sklearn)
    assert metrics.macro_f1_interval(predictions, seed=1) == pytest.approx(np.quantile(scores, [0.025, 0.975]))


def test_a_label_that_few_speakers_say_does_not_make_the_interval_nan(predictions):
    predictions.loc[0, "label"] = "rare"
    low, high = metrics.macro_f1_interval(predictions, seed=1)
    assert 0 <= low < high <= 1


def with_silence(predictions, wrong: int = 0):
    """60 clips of silence beside, cut from six recordings of noise, of which some are taken for a word."""
    of_noise = [f"_background_noise_/{place % 6}.wav" for place in range(60)]
    silence = pd.DataFrame({"label": SILENCE, "predicted": SILENCE, "speaker": of_noise})
    silence.loc[: wrong - 1, "predicted"] = "a"
    return pd.concat([predictions, silence], ignore_index=True)


@pytest.mark.parametrize("interval", [metrics.accuracy_interval, metrics.macro_f1_interval])
def test_of_one_speaker_nothing_follows_however_many_noises_silence_is_cut_from(predictions, interval):
    assert interval(with_silence(predictions.assign(speaker="s0")), seed=1) == [0.0, 1.0]


def test_every_resample_has_all_clips_of_silence(predictions):
    frame = with_silence(predictions, wrong=20)
    right = (predictions["label"] == predictions["predicted"]).groupby(predictions["speaker"]).sum().to_numpy()
    draws = np.random.default_rng(1).integers(30, size=(metrics.RESAMPLES, 30))
    # Each speaker has ten clips.
    accuracies = (right[draws].sum(axis=1) + 40) / (300 + 60)
    assert metrics.accuracy_interval(frame, seed=1) == pytest.approx(np.quantile(accuracies, [0.025, 0.975]))


def test_memory_does_not_grow_with_speakers_times_resamples():
    tracemalloc.start()
    metrics.resampled(np.ones((20_000, 2)), seed=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000 * metrics.RESAMPLES * 8 / 4
