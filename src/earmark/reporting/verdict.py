"""The gate's verdict in words: the same on the terminal, in Markdown, on the page, in MLflow and in reports/."""

from collections.abc import Sequence
from dataclasses import dataclass

from earmark.reporting import formats
from earmark.reporting.gate_result import (
    Comparison,
    Difference,
    Finding,
    RecallDrop,
    TrainedOnTest,
    UnmeasuredLimit,
    Unscored,
    Verdict,
)
from earmark.reporting.outcomes import Outcome

NO_CHAMPION = "there was no champion to compare with"
NO_NOISE = "the split has no background noise as long as a clip"
BY_HAND = "a person may promote it anyway"
NAMED_LABELS = 5
_DIGITS = 2


@dataclass(frozen=True)
class WrittenCheck:
    """One criterion of the gate as text."""

    name: str
    outcome: Outcome
    observed: str
    expected: str

    @property
    def line(self) -> str:
        """The outcome, and what it is based on."""
        return f"{self.outcome}: {self.observed} (expected {self.expected})"


@dataclass(frozen=True)
class WrittenVerdict:
    """The outcome of the gate as text; reports/verdict.json holds these fields.

    Attributes:
        reason: why, in one sentence.
        checks: all criteria, in the same order in every verdict.
        compared_with: number of the champion that the candidate was compared with, "" for none.
    """

    promoted: bool
    reason: str
    checks: tuple[WrittenCheck, ...]
    compared_with: str = ""

    @property
    def alias(self) -> str:
        """The alias that the version earns."""
        return "champion" if self.promoted else "challenger"

    @property
    def summary(self) -> str:
        """The alias and why."""
        return f"{self.alias}: {self.reason}"


def in_words(verdict: Verdict) -> WrittenVerdict:
    """Returns `verdict` as text."""
    checks = (*_limits(verdict), *_label_checks(verdict), _champion_check(verdict))
    failed = [check for check in checks if check.outcome is Outcome.FAILED]
    reasons = [f"{check.name}: {check.observed} (expected {check.expected})" for check in failed]
    reason = "; ".join(reasons) or checks[-1].observed
    return WrittenVerdict(verdict.promoted, reason, checks, verdict.compared_with)


def _limits(verdict: Verdict) -> tuple[WrittenCheck, ...]:
    accuracy, in_noise = verdict.accuracy, verdict.accuracy_at_10_db
    size, latency = verdict.saved_bytes, verdict.latency_ms_p99
    return (
        WrittenCheck(
            "accuracy",
            accuracy.outcome,
            f"{_percent(accuracy.observed)} of {verdict.clips} {' and '.join(verdict.splits)} clips",
            f"at least {_percent(accuracy.limit)}",
        ),
        WrittenCheck(
            "accuracy at 10 dB",
            in_noise.outcome,
            NO_NOISE if isinstance(in_noise, UnmeasuredLimit) else _percent(in_noise.observed),
            f"at least {_percent(in_noise.limit)}",
        ),
        WrittenCheck(
            "saved size", size.outcome, formats.kilobytes(size.observed), f"at most {formats.kilobytes(size.limit)}"
        ),
        WrittenCheck("p99 latency", latency.outcome, f"{latency.observed:.2f} ms", f"at most {latency.limit:g} ms"),
    )


def _label_checks(verdict: Verdict) -> tuple[WrittenCheck, ...]:
    recall, labels = verdict.recall_drop, verdict.known_labels
    drop, known = _drop(recall), _known(labels.missing)
    if verdict.against_champion.comparison is None:
        drop = known = NO_CHAMPION if verdict.unscored is None else "the champion cannot be scored"
    return (
        WrittenCheck("largest drop in recall", recall.outcome, drop, f"at most {_points(recall.limit)}, or one clip"),
        WrittenCheck("labels of the champion", labels.outcome, known, "all of them"),
    )


def _champion_check(verdict: Verdict) -> WrittenCheck:
    check = verdict.against_champion
    if verdict.unscored is not None:
        observed = f"it cannot be scored: {_why(verdict.unscored)}; {BY_HAND}"
    else:
        observed = NO_CHAMPION if check.comparison is None else _comparison(check.comparison)
    expected = (
        f"better beyond chance; or surely not worse by more than {_points(check.equal_within)},"
        f" and {formats.percent(check.min_saving, 0)} smaller or faster"
    )
    return WrittenCheck("against the champion", check.outcome, observed, expected)


def _drop(recall: RecallDrop) -> str:
    return "none" if recall.label is None else f"{_points(recall.drop)}, of {recall.label!r}"


def _known(missing: Sequence[str]) -> str:
    return f"{_listed(missing)} not known; {BY_HAND}" if missing else "all known"


def _comparison(comparison: Comparison) -> str:
    note = f"; {_listed(comparison.new_labels)} the champion does not know" if comparison.new_labels else ""
    return (
        f"{comparison.correct} of {comparison.difference.clips} clips right, the champion"
        f" {comparison.champion_correct} of the same{note}; {_finding(comparison)}"
    )


def _why(unscored: Unscored) -> str:
    if isinstance(unscored, TrainedOnTest):
        return f"it was trained on {unscored.clips} of the {unscored.test_clips} test clips"
    return unscored.error


def _finding(comparison: Comparison) -> str:
    gain, needed = comparison.difference, comparison.speakers_needed
    speakers = f"{gain.speakers} of at least {needed}"
    if comparison.finding is Finding.TOO_FEW_SPEAKERS:
        return f"too few speakers to tell from chance, {speakers}"
    if comparison.finding is Finding.BETTER:
        return f"better beyond chance ({_interval(gain)})"
    if comparison.finding is Finding.AS_GOOD:
        saving = _saving(comparison) or "and neither smaller nor faster by enough"
        return f"as good ({_interval(gain)}), {saving}"
    doubts = {
        Finding.TOO_FEW_SPEAKERS_FOR_AS_GOOD: f"too few speakers to tell whether as good, {speakers}",
        Finding.TOO_FEW_CLIPS_FOR_AS_GOOD: (
            f"too few clips to tell whether as good: none of {gain.clips} is lost,"
            f" up to {_points(-gain.lowest)} of more may be"
        ),
        Finding.MAYBE_WORSE: "not surely as good",
    }
    return f"not better beyond chance, and {doubts[comparison.finding]} ({_interval(gain)})"


def _interval(gain: Difference) -> str:
    return (
        f"{_points(gain.mean, '+')}, 95 % interval {_points(gain.low, '+')} to {_points(gain.high, '+')},"
        f" of {gain.speakers} speakers"
    )


def _saving(comparison: Comparison) -> str:
    shares = {"smaller": comparison.smaller, "faster": comparison.faster}
    return " and ".join(f"{formats.percent(share, 0)} {how}" for how, share in shares.items() if share is not None)


def _listed(labels: Sequence[str]) -> str:
    more = [f"{len(labels) - NAMED_LABELS} more"] * (len(labels) > NAMED_LABELS)
    return ", ".join([*map(repr, labels[:NAMED_LABELS]), *more])


def _percent(fraction: float) -> str:
    return formats.percent(fraction, _DIGITS)


def _points(share: float, sign: str = "") -> str:
    return f"{100 * share:{sign}.{_DIGITS}f} points"
