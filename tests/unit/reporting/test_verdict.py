"""The gate's verdict in words: every number that it rests on, in one style, and an outcome for each check."""

import dataclasses

import pytest

from earmark.reporting.gate_result import (
    AgainstChampion,
    Comparison,
    Difference,
    Finding,
    KnownLabels,
    Limit,
    RecallDrop,
    TrainedOnTest,
    UnmeasuredLimit,
    Unreadable,
    Verdict,
)
from earmark.reporting.outcomes import Outcome
from earmark.reporting.verdict import WrittenCheck, WrittenVerdict, in_words

NO_CHAMPION = "there was no champion to compare with"
EXPECTED = {
    "accuracy": "at least 50.00 %",
    "accuracy at 10 dB": "at least 30.00 %",
    "saved size": "at most 30,000 kB",
    "p99 latency": "at most 100 ms",
    "largest drop in recall": "at most 10.00 points, or one clip",
    "labels of the champion": "all of them",
    "against the champion": (
        "better beyond chance; or surely not worse by more than 0.50 points, and 20 % smaller or faster"
    ),
}
GAIN = Difference(mean=0.0125, low=-0.0013, high=0.02, speakers=40, clips=800, lost=3, chance=0.2)
INTERVAL = "+1.25 points, 95 % interval -0.13 points to +2.00 points, of 40 speakers"
COUNTS = "790 of 800 clips right, the champion 780 of the same"
BETTER = Comparison(GAIN, Finding.BETTER, 790, 780)
FIRST = Verdict(
    clips=800,
    splits=("test",),
    accuracy=Limit(Outcome.PASSED, 0.5, 0.9722),
    accuracy_at_10_db=Limit(Outcome.PASSED, 0.3, 0.8),
    saved_bytes=Limit(Outcome.PASSED, 30_000_000, 1_234_567),
    latency_ms_p99=Limit(Outcome.PASSED, 100.0, 4.056),
    recall_drop=RecallDrop(Outcome.NOT_MEASURED, 0.1),
    known_labels=KnownLabels(Outcome.NOT_MEASURED),
    against_champion=AgainstChampion(Outcome.NOT_MEASURED, 0.005, 0.2),
)


def compared(comparison: Comparison = BETTER, outcome: Outcome = Outcome.PASSED, **changes) -> Verdict:
    return dataclasses.replace(
        FIRST,
        **{
            "recall_drop": RecallDrop(Outcome.PASSED, 0.1),
            "known_labels": KnownLabels(Outcome.PASSED),
            "against_champion": AgainstChampion(outcome, 0.005, 0.2, comparison),
            "compared_with": "3",
        }
        | changes,
    )


def plain(text: str) -> str:
    """`text` with a space for each no-break space, which a number has before its unit."""
    return text.replace("\N{NO-BREAK SPACE}", " ")


def row(verdict: WrittenVerdict, name: str) -> tuple[Outcome, str]:
    [check] = [check for check in verdict.checks if check.name == name]
    return check.outcome, plain(check.observed)


def reason(verdict: Verdict) -> str:
    return plain(in_words(verdict).reason)


def test_a_first_version_says_what_was_measured_and_that_the_rest_was_not():
    verdict = in_words(FIRST)
    assert (verdict.promoted, verdict.alias, verdict.compared_with) == (True, "champion", "")
    assert verdict.summary == f"champion: {NO_CHAMPION}"
    assert {check.name: plain(check.expected) for check in verdict.checks} == EXPECTED
    assert {check.name: row(verdict, check.name) for check in verdict.checks} == {
        "accuracy": (Outcome.PASSED, "97.22 % of 800 test clips"),
        "accuracy at 10 dB": (Outcome.PASSED, "80.00 %"),
        "saved size": (Outcome.PASSED, "1,235 kB"),
        "p99 latency": (Outcome.PASSED, "4.06 ms"),
        "largest drop in recall": (Outcome.NOT_MEASURED, NO_CHAMPION),
        "labels of the champion": (Outcome.NOT_MEASURED, NO_CHAMPION),
        "against the champion": (Outcome.NOT_MEASURED, NO_CHAMPION),
    }


def test_a_line_begins_with_the_outcome():
    assert WrittenCheck("p99 latency", Outcome.NOT_MEASURED, "no clips", "at most 9 ms").line == (
        "not measured: no clips (expected at most 9 ms)"
    )


def test_without_noise_the_check_says_that_it_was_not_measured():
    verdict = in_words(dataclasses.replace(FIRST, accuracy_at_10_db=UnmeasuredLimit(0.3)))
    [check] = [check for check in verdict.checks if check.name == "accuracy at 10 dB"]
    assert plain(check.line) == (
        "not measured: the split has no background noise as long as a clip (expected at least 30.00 %)"
    )
    assert verdict.promoted


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        (
            "accuracy",
            Limit(Outcome.FAILED, 0.5, 0.45),
            "accuracy: 45.00 % of 800 test clips (expected at least 50.00 %)",
        ),
        (
            "accuracy_at_10_db",
            Limit(Outcome.FAILED, 0.3, 0.29),
            "accuracy at 10 dB: 29.00 % (expected at least 30.00 %)",
        ),
        (
            "saved_bytes",
            Limit(Outcome.FAILED, 2_000_000, 3_000_000),
            "saved size: 3,000 kB (expected at most 2,000 kB)",
        ),
        ("latency_ms_p99", Limit(Outcome.FAILED, 0.25, 50.1), "p99 latency: 50.10 ms (expected at most 0.25 ms)"),
        (
            "recall_drop",
            RecallDrop(Outcome.FAILED, 0.1, 0.2, "yes"),
            "largest drop in recall: 20.00 points, of 'yes' (expected at most 10.00 points, or one clip)",
        ),
        (
            "known_labels",
            KnownLabels(Outcome.FAILED, tuple("abcdefg")),
            "labels of the champion: 'a', 'b', 'c', 'd', 'e', 2 more not known; a person may promote it anyway"
            " (expected all of them)",
        ),
    ],
)
def test_what_failed_is_the_reason_of_a_challenger(field, value, expected):
    verdict = compared(**{field: value})
    assert in_words(verdict).alias == "challenger"
    assert reason(verdict) == expected


def test_all_that_failed_is_said():
    verdict = compared(
        accuracy=Limit(Outcome.FAILED, 0.5, 0.45), latency_ms_p99=Limit(Outcome.FAILED, 100.0, 101.0), splits=("a", "b")
    )
    assert reason(verdict) == (
        "accuracy: 45.00 % of 800 a and b clips (expected at least 50.00 %); p99 latency: 101.00 ms"
        " (expected at most 100 ms)"
    )


def test_a_drop_that_is_allowed_and_labels_that_are_known_are_said_too():
    verdict = in_words(compared(recall_drop=RecallDrop(Outcome.PASSED, 0.1, 0.05, "no")))
    assert row(verdict, "largest drop in recall") == (Outcome.PASSED, "5.00 points, of 'no'")
    assert row(verdict, "labels of the champion") == (Outcome.PASSED, "all known")
    assert row(in_words(compared()), "largest drop in recall") == (Outcome.PASSED, "none")
    assert verdict.compared_with == "3"


@pytest.mark.parametrize(
    ("comparison", "expected"),
    [
        (BETTER, f"{COUNTS}; better beyond chance ({INTERVAL})"),
        (
            dataclasses.replace(BETTER, new_labels=("yes", "no")),
            f"{COUNTS}; 'yes', 'no' the champion does not know; better beyond chance ({INTERVAL})",
        ),
        (
            Comparison(GAIN, Finding.AS_GOOD, 790, 780, smaller=0.2, faster=0.5),
            f"{COUNTS}; as good ({INTERVAL}), 20 % smaller and 50 % faster",
        ),
        (Comparison(GAIN, Finding.AS_GOOD, 790, 780, faster=0.25), f"{COUNTS}; as good ({INTERVAL}), 25 % faster"),
    ],
)
def test_a_new_champion_says_by_what(comparison, expected):
    assert in_words(compared(comparison)).promoted
    assert reason(compared(comparison)) == expected


@pytest.mark.parametrize(
    ("comparison", "expected"),
    [
        (
            Comparison(GAIN, Finding.AS_GOOD, 790, 780),
            f"as good ({INTERVAL}), and neither smaller nor faster by enough",
        ),
        (
            Comparison(GAIN, Finding.MAYBE_WORSE, 790, 780),
            f"not better beyond chance, and not surely as good ({INTERVAL})",
        ),
        (
            Comparison(GAIN, Finding.TOO_FEW_SPEAKERS, 790, 780, speakers_needed=50),
            "too few speakers to tell from chance, 40 of at least 50",
        ),
        (
            Comparison(GAIN, Finding.TOO_FEW_SPEAKERS_FOR_AS_GOOD, 790, 780, speakers_needed=50),
            f"not better beyond chance, and too few speakers to tell whether as good, 40 of at least 50 ({INTERVAL})",
        ),
        (
            Comparison(dataclasses.replace(GAIN, lost=0), Finding.TOO_FEW_CLIPS_FOR_AS_GOOD, 790, 780),
            "not better beyond chance, and too few clips to tell whether as good: none of 800 is lost, up to 0.38"
            f" points of more may be ({INTERVAL})",
        ),
    ],
)
def test_a_challenger_says_what_lacks(comparison, expected):
    verdict = compared(comparison, Outcome.FAILED)
    assert not in_words(verdict).promoted
    assert reason(verdict) == (
        f"against the champion: {COUNTS}; {expected} (expected {EXPECTED['against the champion']})"
    )


@pytest.mark.parametrize(
    ("unscored", "why"),
    [
        (Unreadable("its files are gone"), "its files are gone"),
        (TrainedOnTest(12, 800), "it was trained on 12 of the 800 test clips"),
    ],
)
def test_a_champion_that_cannot_be_scored_leaves_the_choice_to_a_person(unscored, why):
    against = AgainstChampion(Outcome.FAILED, 0.005, 0.2)
    verdict = in_words(dataclasses.replace(FIRST, against_champion=against, unscored=unscored))
    says = f"it cannot be scored: {why}; a person may promote it anyway"
    assert plain(verdict.reason).startswith(f"against the champion: {says} (expected better")
    assert row(verdict, "largest drop in recall") == (Outcome.NOT_MEASURED, "the champion cannot be scored")
    assert row(verdict, "labels of the champion") == (Outcome.NOT_MEASURED, "the champion cannot be scored")


def test_every_verdict_has_the_same_checks_in_the_same_order():
    unscored = dataclasses.replace(FIRST, unscored=Unreadable("gone"))
    assert all([check.name for check in in_words(verdict).checks] == [*EXPECTED] for verdict in (unscored, compared()))
