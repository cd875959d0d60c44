"""The gate: which candidate replaces the champion, and what is wrong with those that do not; numbers, no sentences."""

import ast
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from earmark.evaluation import metrics
from earmark.params import SILENCE, Gate
from earmark.registry import gate
from earmark.registry.gate import Contender, Cost, verdict
from earmark.reporting.gate_result import (
    Comparison,
    Finding,
    KnownLabels,
    Limit,
    RecallDrop,
    UnmeasuredLimit,
    Unreadable,
    Unscored,
    Verdict,
)
from earmark.reporting.outcomes import Outcome

LIMITS = Gate(
    min_accuracy=0.5,
    min_accuracy_at_10_db=0.3,
    max_label_drop=0.1,
    max_saved_bytes=2_000_000,
    max_latency_ms_p99=50.0,
    equal_within=0.005,
    min_saving=0.2,
)


def costing(saved_bytes: int, ms: float, p99_ms: float) -> Cost:
    """The same in every round."""
    return Cost(saved_bytes, (ms,) * 5, p99_ms)


COST = costing(1_000_000, 2.0, 4.0)
LABELS = ("no", "yes")
SPEAKERS, CLIPS_OF_EACH = 40, 20


def predictions_with(
    wrong: dict[int, int] | None = None, speakers: int = SPEAKERS, clips: int = CLIPS_OF_EACH
) -> pd.DataFrame:
    """Predictions of half "yes" and half "no" of `clips` clips by each speaker; `wrong` of them by speaker."""
    rows = [
        (label, f"speaker {speaker}", label if clip >= (wrong or {}).get(speaker, 0) else "something else")
        for speaker in range(speakers)
        for clip, label in enumerate(LABELS * (clips // 2))
    ]
    return pd.DataFrame(rows, columns=["label", "speaker", "predicted"]).assign(split="test")


def model(predictions: pd.DataFrame, labels: tuple[str, ...] = LABELS, cost: Cost = COST) -> Contender:
    return Contender(labels, predictions, cost)


def evaluated(
    new: Contender, champion: Contender | Unscored | None, at_10_db: float | None = 0.8, limits: Gate = LIMITS
):
    return verdict(limits, new, at_10_db, champion, seed=1)


CRITERIA = ("accuracy", "accuracy_at_10_db", "saved_bytes", "latency_ms_p99")
CRITERIA += ("recall_drop", "known_labels", "against_champion")


def failed(result: Verdict) -> list[str]:
    return [name for name in CRITERIA if getattr(result, name).outcome is Outcome.FAILED]


def compared(result: Verdict) -> Comparison:
    comparison = result.against_champion.comparison
    assert comparison is not None
    return comparison


EVERYBODY = dict.fromkeys(range(SPEAKERS), 1)


def test_the_first_version_is_champion_where_the_limits_hold_and_nothing_that_was_not_measured_has_passed():
    result = evaluated(model(predictions_with()), None)
    assert result.promoted
    assert (result.clips, result.splits, result.unscored) == (SPEAKERS * CLIPS_OF_EACH, ("test",), None)
    outcomes = [getattr(result, name).outcome for name in CRITERIA]
    assert outcomes == [Outcome.PASSED] * 4 + [Outcome.NOT_MEASURED] * 3
    assert result.against_champion.comparison is None


@pytest.mark.parametrize(
    ("new", "at_10_db", "name", "limit", "observed"),
    [
        (model(predictions_with(dict.fromkeys(range(SPEAKERS), 11))), 0.8, "accuracy", 0.5, 0.45),
        (model(predictions_with()), 0.29, "accuracy_at_10_db", 0.3, 0.29),
        (model(predictions_with(), cost=costing(2_000_001, 2.0, 4.0)), 0.8, "saved_bytes", 2_000_000, 2_000_001),
        (model(predictions_with(), cost=costing(1_000_000, 2.0, 50.1)), 0.8, "latency_ms_p99", 50.0, 50.1),
    ],
)
def test_a_broken_limit_alone_makes_a_challenger_of_the_first_version(new, at_10_db, name, limit, observed):
    result = evaluated(new, None, at_10_db)
    assert failed(result) == [name]
    assert getattr(result, name) == Limit(Outcome.FAILED, limit, pytest.approx(observed))
    assert not result.promoted


def test_what_lies_exactly_on_a_limit_passes():
    half_right = model(predictions_with(dict.fromkeys(range(SPEAKERS), 10)), cost=costing(2_000_000, 2.0, 50.0))
    result = evaluated(half_right, None, at_10_db=0.3)
    assert result.promoted
    assert all(getattr(result, name).outcome is Outcome.PASSED for name in CRITERIA[:4])


def test_without_background_noise_the_noise_limit_is_not_measured_and_stops_nothing():
    result = evaluated(model(predictions_with()), None, at_10_db=None)
    assert result.promoted
    assert result.accuracy_at_10_db == UnmeasuredLimit(0.3)
    assert result.accuracy_at_10_db.outcome is Outcome.NOT_MEASURED


def test_better_beyond_chance_takes_the_champions_place():
    result = evaluated(model(predictions_with()), model(predictions_with(EVERYBODY)))
    assert result.promoted
    comparison = compared(result)
    assert (comparison.correct, comparison.champion_correct, comparison.difference.clips) == (800, 760, 800)
    assert comparison.finding is Finding.BETTER
    assert comparison.difference.mean == pytest.approx(0.05)
    assert all(getattr(result, name).outcome is Outcome.PASSED for name in CRITERIA)


def test_better_by_chance_does_not():
    result = evaluated(model(predictions_with({0: 1})), model(predictions_with({1: 2})))
    assert not result.promoted
    assert compared(result).finding is Finding.AS_GOOD
    assert (compared(result).smaller, compared(result).faster) == (None, None)


def test_better_clips_of_one_speaker_are_chance_however_many_they_are():
    """Twenty clips more, which would be far beyond chance were they independent."""
    result = evaluated(model(predictions_with()), model(predictions_with({0: CLIPS_OF_EACH})))
    assert not result.promoted
    assert compared(result).finding is Finding.AS_GOOD
    assert compared(result).difference.mean == pytest.approx(0.025)


@pytest.mark.parametrize(("speakers", "promoted"), [(2, False), (5, False), (6, True), (12, True)])
def test_what_every_one_of_few_speakers_gains_may_still_be_chance(speakers, promoted):
    """Were both as good, each speaker would gain or lose alike: all of n gain with a chance of 1 in 2 to the n."""
    everybody = dict.fromkeys(range(speakers), 1)
    result = evaluated(
        model(predictions_with(speakers=speakers)), model(predictions_with(everybody, speakers=speakers))
    )
    assert result.promoted is promoted
    chance = gate.difference(
        predictions_with(speakers=speakers), predictions_with(everybody, speakers=speakers), seed=2
    ).chance
    assert chance == pytest.approx(0.5**speakers)


def share_of_sign_flips(gains: list[int]) -> float:
    """The share of all sign flips of `gains` whose sum is at least theirs, counted sum by sum."""
    flips_with_sum = Counter({0: 1})
    for gain in gains:
        longer: Counter[int] = Counter()
        for total, flips in flips_with_sum.items():
            longer[total + gain] += flips
            longer[total - gain] += flips
        flips_with_sum = longer
    return sum(flips for total, flips in flips_with_sum.items() if total >= sum(gains)) / 2 ** len(gains)


@pytest.mark.parametrize(
    ("speakers", "changed", "exact"),
    [(1, 1, True), (2, 0, True), (2, 1, True), (40, 1, True), (40, 13, True), (40, 14, False), (60, 60, False)],
)
@pytest.mark.parametrize("seed", range(4))
def test_the_p_value_is_the_share_of_sign_flips_with_at_least_the_gain(speakers, changed, exact, seed):
    gains = [int(gain) for gain in np.random.default_rng(seed).choice([-3, -1, 1, 2, 4], size=changed)]
    new, champion = (
        predictions_with({at: max(0, sign * gain) for at, gain in enumerate(gains)}, speakers) for sign in (-1, 1)
    )
    chance = gate.difference(new, champion, seed).chance
    # Of 9,999 that are drawn, the standard error is at most half a point.
    assert chance == pytest.approx(share_of_sign_flips(gains), abs=1e-12 if exact else 0.02)
    assert gate.difference(new, champion, seed).chance == chance


def test_the_fewest_speakers_are_those_of_whom_all_can_gain_beyond_chance():
    assert 0.5**gate.FEWEST_SPEAKERS <= gate.CHANCE < 0.5 ** (gate.FEWEST_SPEAKERS - 1)


def test_the_interval_is_that_of_paired_differences_of_speakers_drawn_one_by_one():
    rng = np.random.default_rng(5)
    new, champion = (
        predictions_with({speaker: int(rng.integers(6)) for speaker in range(12)}, speakers=12) for _ in range(2)
    )
    result = gate.difference(new, champion, seed=3)
    gained = (new["predicted"] == new["label"]).astype(int) - (champion["predicted"] == champion["label"])
    of_speaker = [gained[new["speaker"] == f"speaker {speaker}"] for speaker in sorted(range(12), key=str)]
    draws = np.random.default_rng(3).integers(12, size=(metrics.RESAMPLES, 12))
    means = [np.concatenate([of_speaker[at] for at in draw]).mean() for draw in draws]
    assert (result.low, result.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))
    assert result.mean == pytest.approx(gained.mean())


def test_recordings_of_noise_that_silence_is_cut_from_are_no_speakers():
    silence = pd.DataFrame(
        {"label": SILENCE, "predicted": SILENCE, "speaker": [f"_background_noise_/{at}.wav" for at in range(8)]}
    )
    new = pd.concat([predictions_with(speakers=2), silence], ignore_index=True)
    result = gate.difference(new, new.assign(predicted=SILENCE), seed=2)
    assert (result.speakers, result.clips, result.mean) == (2, 48, pytest.approx(40 / 48))


@pytest.mark.parametrize(
    ("cost", "smaller", "faster"),
    [
        (costing(800_000, 2.4, 4.0), 0.2, None),
        (costing(1_200_000, 1.6, 4.0), None, 0.2),
        (costing(500_000, 1.0, 4.0), 0.5, 0.5),
        (costing(810_000, 1.65, 4.0), None, None),
        (costing(500_000, 2.5, 4.0), None, None),
        (costing(1_300_000, 1.0, 4.0), None, None),
    ],
)
def test_an_equal_one_must_be_cheaper_and_not_pay_for_it_with_the_other(cost, smaller, faster):
    result = evaluated(model(predictions_with(), cost=cost), model(predictions_with()))
    assert result.promoted is (smaller is not None or faster is not None)
    assert compared(result).finding is Finding.AS_GOOD
    assert compared(result).smaller == (smaller and pytest.approx(smaller))
    assert compared(result).faster == (faster and pytest.approx(faster))


def test_what_is_faster_is_so_in_every_round():
    """Other work on the machine: the champion was slow in most rounds, or the new one in one."""
    champion_cost = Cost(1_000_000, (2.0, 9.0, 9.0, 9.0, 2.0), 9.0)
    assert not evaluated(model(predictions_with()), Contender(LABELS, predictions_with(), champion_cost)).promoted
    slow_once = Cost(1_000_000, (1.0, 1.0, 1.0, 1.0, 2.0), 4.0)
    assert not evaluated(model(predictions_with(), cost=slow_once), model(predictions_with())).promoted
    both_slow_once = Cost(1_000_000, (1.0, 1.0, 4.0, 1.0, 1.0), 4.0)
    champion_cost = Cost(1_000_000, (2.0, 2.0, 8.0, 2.0, 2.0), 8.0)
    champion = Contender(LABELS, predictions_with(), champion_cost)
    result = evaluated(model(predictions_with(), cost=both_slow_once), champion)
    assert result.promoted
    assert compared(result).faster == pytest.approx(0.5)


def test_a_cheaper_one_that_may_be_worse_is_a_challenger():
    tiny = costing(1000, 0.1, 0.2)
    result = evaluated(model(predictions_with(dict.fromkeys(range(10), 1)), cost=tiny), model(predictions_with()))
    assert not result.promoted
    assert compared(result).finding is Finding.MAYBE_WORSE
    assert compared(result).difference.mean == pytest.approx(-0.0125)


@pytest.mark.parametrize("speakers", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("wrong", [0, 8])
def test_of_few_speakers_nothing_is_better_beyond_chance_nor_as_good(speakers, wrong):
    """Of 1000 clips of each, all right: clips are not what lacks."""
    champion = predictions_with(dict.fromkeys(range(speakers), wrong), speakers, clips=1000)
    result = evaluated(
        model(predictions_with(speakers=speakers, clips=1000), cost=costing(1000, 0.1, 0.2)), model(champion)
    )
    assert not result.promoted
    assert failed(result) == ["against_champion"]
    assert compared(result).finding is Finding.TOO_FEW_SPEAKERS
    assert (compared(result).difference.speakers, compared(result).speakers_needed) == (speakers, 6)


@pytest.mark.parametrize("speakers", [6, 29])
def test_of_some_speakers_it_cannot_be_told_whether_as_good_however_many_clips_they_have(speakers):
    same = predictions_with(speakers=speakers, clips=1000)
    result = evaluated(model(same, cost=costing(1000, 0.1, 0.2)), model(same.copy()))
    assert not result.promoted
    assert compared(result).finding is Finding.TOO_FEW_SPEAKERS_FOR_AS_GOOD
    assert (compared(result).difference.speakers, compared(result).speakers_needed) == (speakers, 30)


def test_a_loss_with_one_speaker_in_six_is_seldom_overlooked_by_the_fewest_speakers():
    """A tenth of the clips of a sixth of all speakers: 1.67 points in all, of which half a point may be lost."""
    rng, tiny = np.random.default_rng(4), costing(1000, 0.1, 0.2)
    champion, promoted = predictions_with(speakers=30), 0
    for _ in range(100):
        losing = np.flatnonzero(rng.random(30) < 1 / 6)
        new = predictions_with({int(speaker): int(rng.binomial(20, 0.1)) for speaker in losing}, speakers=30)
        promoted += evaluated(model(new, cost=tiny), model(champion)).promoted
    assert promoted <= 5


# Of the rule of three, 3 / 600 clips are the half point that `equal_within` allows.
@pytest.mark.parametrize(
    ("speakers", "clips", "promoted"), [(30, 2, False), (30, 18, False), (30, 20, True), (299, 2, False)]
)
def test_without_a_loss_there_must_be_clips_enough_to_have_shown_one(speakers, clips, promoted):
    same = predictions_with({0: 1}, speakers, clips)
    result = evaluated(model(same, cost=costing(500_000, 1.0, 4.0)), model(same.copy()))
    assert result.promoted is promoted
    assert compared(result).finding is (Finding.AS_GOOD if promoted else Finding.TOO_FEW_CLIPS_FOR_AS_GOOD)
    assert (compared(result).difference.mean, compared(result).difference.lost) == (0, 0)
    assert compared(result).difference.lowest == pytest.approx(-3 / (speakers * clips))


def test_few_clips_may_be_better_beyond_chance_where_none_was_lost():
    result = evaluated(
        model(predictions_with(speakers=6, clips=4)), model(predictions_with(dict.fromkeys(range(6), 2), 6, clips=4))
    )
    assert result.promoted
    assert compared(result).finding is Finding.BETTER
    assert compared(result).difference.mean == pytest.approx(0.5)


def test_where_clips_were_lost_the_interval_alone_says_how_many_may_be():
    result = gate.difference(predictions_with({0: 1}), predictions_with({1: 1}), seed=1)
    assert (result.clips, result.lost, result.lowest) == (800, 1, result.low)
    unlike = gate.difference(predictions_with(), predictions_with({0: 1, 1: 2}), seed=1)
    assert (unlike.lost, unlike.lowest) == (0, -3 / 800)
    assert unlike.low >= 0


def test_a_label_that_is_found_less_often_keeps_a_better_one_from_the_place():
    new, champion = predictions_with(), predictions_with(dict.fromkeys(range(SPEAKERS), 8))
    lost = (new["label"] == "yes") & (np.arange(len(new)) % 20 > 15)
    new.loc[lost, "predicted"] = "no"
    champion.loc[new["label"] == "yes", "predicted"] = "yes"
    champion.loc[(new["label"] == "no"), "predicted"] = "yes"
    result = evaluated(model(new), model(champion))
    assert not result.promoted
    assert failed(result) == ["recall_drop"]
    assert result.recall_drop == RecallDrop(Outcome.FAILED, 0.1, pytest.approx(0.2), "yes")


def test_one_clip_fewer_of_a_rare_label_is_allowed_and_two_are_not():
    rare = pd.DataFrame({"label": "rare", "speaker": "speaker 0", "predicted": ["rare"] * 5, "split": "test"})
    champion = pd.concat([predictions_with(EVERYBODY), rare], ignore_index=True)
    for missed, promoted in ((1, True), (2, False)):
        new = pd.concat([predictions_with(), rare], ignore_index=True)
        new.loc[new.index[-missed:], "predicted"] = "no"
        labels = (*LABELS, "rare")
        assert evaluated(model(new, labels), model(champion, labels)).promoted is promoted


def test_a_champion_that_lacks_labels_is_wrong_on_their_clips_and_it_is_said():
    champion = predictions_with()
    champion.loc[champion["label"] == "yes", "predicted"] = "no"
    result = evaluated(model(predictions_with()), model(champion, labels=("maybe", "no")), limits=LIMITS)
    assert compared(result).new_labels == ("yes",)
    assert not result.promoted
    assert result.known_labels == KnownLabels(Outcome.FAILED, ("maybe",))
    assert evaluated(model(predictions_with()), model(champion, labels=("no",))).promoted


def test_a_label_that_only_the_champion_knows_leaves_the_choice_to_a_person():
    result = evaluated(
        model(predictions_with()),
        model(predictions_with(EVERYBODY), labels=(*LABELS, *(f"label {number}" for number in range(7)))),
    )
    assert not result.promoted
    assert failed(result) == ["known_labels"]
    assert result.known_labels.missing == tuple(f"label {number}" for number in range(7))


def test_a_champion_that_cannot_be_scored_leaves_the_choice_to_a_person():
    result = evaluated(model(predictions_with()), Unreadable("its files are gone"))
    assert not result.promoted
    assert failed(result) == ["against_champion"]
    assert result.unscored == Unreadable("its files are gone")
    assert result.recall_drop.outcome is result.known_labels.outcome is Outcome.NOT_MEASURED


def test_all_that_is_wrong_is_found_at_once():
    result = evaluated(
        model(predictions_with(dict.fromkeys(range(SPEAKERS), 15)), cost=costing(3_000_000, 2.0, 60.0)), None, 0.1
    )
    assert failed(result) == [*CRITERIA[:4]]


def test_a_recall_that_did_not_drop_names_no_label():
    result = evaluated(model(predictions_with()), model(predictions_with(EVERYBODY)))
    assert result.recall_drop == RecallDrop(Outcome.PASSED, 0.1)


@pytest.mark.parametrize("module", ["gate", "comparison"])
def test_no_number_is_written_as_text_here(module):
    tree = ast.parse((ROOT / f"src/earmark/registry/{module}.py").read_text(encoding="utf-8"))
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.FormattedValue) and node.format_spec]


@pytest.mark.parametrize("column", ["label", "speaker"])
def test_models_that_were_scored_on_other_clips_are_not_compared(column):
    other = predictions_with()
    other[column] = other[column].to_numpy()[::-1]
    with pytest.raises(ValueError, match=column):
        evaluated(model(predictions_with()), model(other))
