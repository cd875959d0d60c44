"""What rules look at: facts, relations between clips, and the distance from an earlier version."""

import numpy as np
import pandas as pd
import pytest

from earmark.dataset import quality


def clips(count: int = 40, **columns: object) -> pd.DataFrame:
    """Sound clips of two labels, each of a speaker of its own; `columns` replace what is given."""
    numbers = np.arange(count)
    frame = {
        "id": [f"{'no' if n % 2 else 'yes'}/s{n}_nohash_0.wav" for n in numbers],
        "label": np.where(numbers % 2, "no", "yes"),
        "speaker": [f"s{n}" for n in numbers],
        "split": "training",
        "sha256": [f"{n:064x}" for n in numbers],
        "sample_rate_hz": 16_000,
        "seconds": 1.0,
        "peak": 0.5,
        "rms": np.linspace(0.01, 0.3, count),
        "clipped_fraction": 0.0,
        "error": "",
    }
    return pd.DataFrame(frame | columns)


def distances(before: pd.DataFrame, now: pd.DataFrame) -> dict[str, float]:
    return quality.drift(before, now).set_index("quantity")["distance"].to_dict()


def largest_gap(before: np.ndarray, now: np.ndarray) -> float:
    """The Kolmogorov-Smirnov statistic by its definition: at every value, how far the shares not above it differ."""
    return max(abs((before <= value).mean() - (now <= value).mean()) for value in [*before, *now])


def test_the_same_clips_have_not_drifted():
    assert distances(clips(), clips()) == {"length": 0, "loudness": 0, "label mix": 0}


def chance(speakers_before: int, speakers_now: int) -> float:
    """Smirnov's critical value at a level of 5 %."""
    return np.sqrt(-np.log(0.05 / 2) / 2) * np.sqrt((speakers_before + speakers_now) / (speakers_before * speakers_now))


def test_drift_of_length_and_loudness_is_the_largest_gap_between_the_shares_below_a_value_beyond_chance():
    random = np.random.default_rng(1)
    before = clips(200, seconds=random.uniform(0.5, 2, 200), rms=random.uniform(0, 0.4, 200))
    now = clips(300, seconds=random.uniform(1.2, 2, 300), rms=random.uniform(0, 0.2, 300))
    distance_of = distances(before, now)
    lengths = [frame["seconds"].to_numpy() for frame in (before, now)]
    decibels = [20 * np.log10(frame["rms"].to_numpy()) for frame in (before, now)]
    assert distance_of["length"] == pytest.approx(largest_gap(*lengths) - chance(200, 300), abs=1e-3)
    assert distance_of["loudness"] == pytest.approx(largest_gap(*decibels) - chance(200, 300), abs=1e-3)


def test_one_more_speaker_among_few_is_no_drift_however_loud_and_many_are():
    speakers = np.repeat(np.arange(7), 30)
    loudness = np.array([0.1, 0.11, 0.12, 0.13, 0.14, 0.15, 0.9])[speakers]
    everyone = clips(210, speaker=[f"s{n}" for n in speakers], rms=loudness)
    assert distances(everyone[speakers < 6], everyone)["loudness"] == 0
    alone = everyone.assign(speaker=[f"s{n}" for n in range(210)])
    assert distances(alone[speakers < 6], alone)["loudness"] == pytest.approx(1 / 7 - chance(180, 210), abs=1e-3)


def test_drift_of_the_label_mix_is_the_share_of_clips_that_would_have_to_change_their_label():
    before = clips(10, label=["yes"] * 5 + ["no"] * 5)
    now = clips(10, label=["yes"] * 2 + ["no"] * 5 + ["up"] * 3)
    assert distances(before, now)["label mix"] == pytest.approx(0.3)


def test_drift_of_silent_clips_is_a_number():
    before, now = clips(400, rms=0.0), clips(400, rms=np.where(np.arange(400) < 300, 0.0, 0.1))
    drift = quality.drift(before, now).set_index("quantity")
    assert drift.at["loudness", "distance"] == pytest.approx(0.25 - chance(400, 400), abs=1e-3)
    assert drift.at["loudness", "id"] == "loudness: median -120 to -120 dBFS"


def test_drift_says_what_moved():
    now = clips(seconds=2.0, label=["yes"] * 28 + ["up"] * 6 + ["no"] * 6)
    ids = quality.drift(clips(), now).set_index("quantity")["id"]
    assert ids["length"] == "length: median 1 to 2 s"
    assert ids["label mix"] == "label mix: no from 50.0\u00a0% to 15.0\u00a0% of the clips"


def test_facts_of_what_cannot_be_decoded_break_no_further_rule():
    facts = quality.for_clip_rules(clips(3, error=["", "no RIFF", ""], seconds=[1.0, 0.0, 1.0], peak=[0.5, 0.0, 0.5]))
    assert facts["seconds"].isna().tolist() == facts["peak"].isna().tolist() == [False, True, False]
    assert facts["error"].tolist() == ["", "no RIFF", ""]


def test_a_clip_whose_facts_are_missing_has_an_error():
    assert quality.for_clip_rules(clips(2, peak=[0.5, np.nan]))["error"].tolist() == ["", quality.UNMEASURED]


def test_a_recording_is_one_row_that_names_all_its_clips():
    sha256 = ["a", "b", "a", "c"]
    split = ["training", "training", "test", "training"]
    rows = quality.by_recording(clips(4, id=["v", "w", "x", "y"], sha256=sha256, split=split)).set_index("id")
    assert rows.loc["v = x"].tolist() == [2, 1]
    assert rows.drop("v = x").to_numpy().tolist() == [[1, 1], [1, 1]]


def test_only_a_speaker_that_a_name_states_can_be_in_two_splits():
    frame = clips(4, id=["yes/1.wav", "no/1.wav", "yes/ann_nohash_0.wav", "no/ann_nohash_0.wav"])
    frame = frame.assign(speaker=["1", "1", "ann", "ann"], split=["training", "test"] * 2)
    assert quality.by_speaker(frame).to_numpy().tolist() == [["ann", 2]]


def test_a_label_of_which_nothing_was_accepted_is_counted_too():
    everything = clips(6, split=["training"] * 5 + ["test"])
    rows = quality.by_label(everything, everything[everything["label"] == "no"]).set_index("id")
    assert rows.loc["yes"].tolist() == [0, 0]
    assert rows.loc["no"].tolist() == [3, 2]


def test_an_empty_data_set_has_nothing_in_quarantine():
    assert quality.quarantined_share(0, 0)["quarantined_fraction"].tolist() == [0]
