"""Decides whether a candidate replaces the champion: limits, and a comparison on the same clips. Pure."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from earmark.evaluation import metrics
from earmark.params import Gate

AGAINST_CHAMPION = "against the champion"
NO_CHAMPION = "there is no champion yet"
NO_NOISE = "not measured: the split has no background noise as long as a clip"
BY_HAND = "a person may promote it anyway"
NAMED_LABELS = 5
CHANCE = 0.025
"""Significance level: how often a model that is only as good may pass for better."""
FEWEST_SPEAKERS = math.ceil(math.log2(1 / CHANCE))
"""With fewer speakers nothing is significant: that all n speakers gain has a probability of 2^-n by chance."""
FEWEST_SPEAKERS_AS_GOOD = 30
"""With fewer speakers the bootstrap too often misses a loss that only some of them show."""
PERMUTATIONS = 9999
_PERMUTED_AT_ONCE = 500
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Cost:
    """The cost of a model: size of the saved file, and time for one clip on one core.

    Attributes:
        latency_ms: median of each round; in every round all contenders were timed in turn.
        latency_ms_p99: 99th percentile over all rounds.
    """

    saved_bytes: int
    latency_ms: tuple[float, ...]
    latency_ms_p99: float


@dataclass(frozen=True)
class Contender:
    """A model as the gate sees it: its labels, its predictions and its cost.

    `predictions` has one row for each clip of the reporting split, with `label`, `speaker`, `split` and `predicted`.
    """

    labels: tuple[str, ...]
    predictions: pd.DataFrame
    cost: Cost


@dataclass(frozen=True)
class Unscored:
    """A champion that cannot be scored; `reason` is one sentence."""

    reason: str


@dataclass(frozen=True)
class Check:
    """One criterion of the gate with its outcome, in text for people."""

    name: str
    observed: str
    allowed: str
    passed: bool


@dataclass(frozen=True)
class Verdict:
    """The outcome of the gate.

    Attributes:
        reason: why, in one sentence.
        checks: all criteria, in the same order in every verdict.
        compared_with: number of the champion that the candidate was compared with, "" for none.
    """

    promoted: bool
    reason: str
    checks: tuple[Check, ...]
    compared_with: str = ""

    @property
    def alias(self) -> str:
        """The alias that the version earns."""
        return "champion" if self.promoted else "challenger"


@dataclass(frozen=True)
class Difference:
    """The candidate's accuracy minus the champion's on the same clips, in [-1, 1].

    Attributes:
        low, high: bounds of the 95 % interval.
        lost: clips that only the champion has right.
        chance: p-value, the probability of at least this gain if both were equally good.
    """

    mean: float
    low: float
    high: float
    speakers: int
    clips: int
    lost: int
    chance: float

    @property
    def lowest(self) -> float:
        """The smallest plausible difference.

        That is `low`. If no clip was lost, no resample can show a loss: then it is at most -3 / `clips`, by the rule of
        three (Hanley and Lippman-Hand 1983, "If nothing goes wrong, is everything all right?").
        """
        return self.low if self.lost else min(self.low, -3 / self.clips)


def verdict(
    limits: Gate,
    candidate: Contender,
    accuracy_at_10_db: float | None,
    champion: Contender | Unscored | None,
    seed: int,
) -> Verdict:
    """Evaluates `candidate` by the limits and, if there is a champion, in comparison with it.

    The candidate is promoted if all limits hold and it is significantly better than the champion, or as good and
    smaller or faster. `accuracy_at_10_db` is the candidate's accuracy in background noise, None if the split has no
    noise as long as a clip.

    Raises:
        ValueError: the two were not scored on the same clips in the same order.
    """
    checks = (
        *_limit_checks(limits, candidate, accuracy_at_10_db),
        *_label_checks(limits, candidate, champion),
        _champion_check(limits, candidate, champion, seed),
    )
    failed = [check for check in checks if not check.passed]
    if not failed:
        return Verdict(True, checks[-1].observed, checks)
    reasons = [f"{check.name}: {check.observed} (expected {check.allowed})" for check in failed]
    return Verdict(False, "; ".join(reasons), checks)


def difference(candidate: pd.DataFrame, champion: pd.DataFrame, seed: int) -> Difference:
    """Computes the paired difference in accuracy from the predictions of both.

    The interval is a percentile bootstrap over speakers, since clips of one speaker are not independent (Efron and
    Tibshirani 1993, "An Introduction to the Bootstrap", sections 8.3 and 13.3). The p-value is that of a permutation
    test, which holds for few speakers too: it flips the sign of each speaker's gain (same book, section 15.2). Up to
    13 speakers with a gain or loss are enumerated; of more, PERMUTATIONS are drawn.
    """
    for column in ("label", "speaker"):
        if candidate[column].tolist() != champion[column].tolist():
            raise ValueError(f"{column}: the two models were scored on different clips, or in a different order")
    gained = _is_correct(candidate).to_numpy(int) - _is_correct(champion).to_numpy(int)
    of_speaker, of_silence = metrics.by_speaker(np.column_stack([gained, np.ones(len(gained))]), candidate)
    sums = metrics.resampled(of_speaker, seed) + of_silence
    low, high = metrics.percentiles(sums[:, 0] / sums[:, 1])
    chance = _chance(of_speaker[:, 0], seed)
    return Difference(float(gained.mean()), low, high, len(of_speaker), len(gained), int((gained < 0).sum()), chance)


def _chance(gained: np.ndarray, seed: int) -> float:
    """The share of sign flips of `gained`, (speakers,), whose sum is at least the observed one."""
    from scipy.stats import permutation_test

    changed = gained[gained != 0]  # the others are in no sum
    if len(changed) < 2:  # which SciPy refuses
        return 0.5 if changed.sum() > 0 else 1.0
    test = permutation_test(
        (changed,),
        np.sum,
        permutation_type="samples",
        alternative="greater",
        n_resamples=PERMUTATIONS,
        batch=_PERMUTED_AT_ONCE,  # memory does not grow with speakers times permutations
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)


def _limit_checks(limits: Gate, candidate: Contender, accuracy_at_10_db: float | None) -> list[Check]:
    predictions, cost = candidate.predictions, candidate.cost
    accuracy = metrics.accuracy(predictions)
    clips = f"{len(predictions)} {' and '.join(sorted(predictions['split'].unique()))} clips"
    return [
        Check(
            "accuracy",
            f"{accuracy:.2%} of {clips}",
            f"at least {limits.min_accuracy:.2%}",
            accuracy >= limits.min_accuracy,
        ),
        Check(
            "accuracy at 10 dB",
            NO_NOISE if accuracy_at_10_db is None else f"{accuracy_at_10_db:.2%}",
            f"at least {limits.min_accuracy_at_10_db:.2%}",
            accuracy_at_10_db is None or accuracy_at_10_db >= limits.min_accuracy_at_10_db,
        ),
        Check(
            "saved size",
            _kilobytes(cost.saved_bytes),
            f"at most {_kilobytes(limits.max_saved_bytes)}",
            cost.saved_bytes <= limits.max_saved_bytes,
        ),
        Check(
            "p99 latency",
            f"{cost.latency_ms_p99:.2f} ms",
            f"at most {limits.max_latency_ms_p99:g} ms",
            cost.latency_ms_p99 <= limits.max_latency_ms_p99,
        ),
    ]


def _label_checks(limits: Gate, candidate: Contender, champion: Contender | Unscored | None) -> list[Check]:
    """Checks that no label of the champion is missing, and that no label's recall has dropped."""
    drop_name, labels_name = "largest drop in recall", "labels of the champion"
    allowed = f"at most {_points(limits.max_label_drop)}, or one clip", "all of them"
    if not isinstance(champion, Contender):
        observed = NO_CHAMPION if champion is None else "the champion cannot be scored"
        return [Check(drop_name, observed, allowed[0], True), Check(labels_name, observed, allowed[1], True)]
    missing = sorted(set(champion.labels) - set(candidate.labels))
    drops = (_recalls(champion.predictions) - _recalls(candidate.predictions)).sort_index()
    # For a label with few clips, a single clip is more than the limit.
    one_clip = 1 / candidate.predictions.groupby("label").size().sort_index()
    worst = (drops - one_clip.clip(lower=limits.max_label_drop)).idxmax()
    observed = f"{_points(drops[worst])}, of {worst!r}" if drops[worst] > 0 else "none"
    passed = drops[worst] <= max(one_clip[worst], limits.max_label_drop) + _ROUNDING
    coverage = f"{_listed(missing)} not known; {BY_HAND}" if missing else "all known"
    return [
        Check(drop_name, observed, allowed[0], bool(passed)),
        Check(labels_name, coverage, allowed[1], not missing),
    ]


def _champion_check(limits: Gate, candidate: Contender, champion: Contender | Unscored | None, seed: int) -> Check:
    allowed = (
        f"better beyond chance; or surely not worse by more than {_points(limits.equal_within)},"
        f" and {limits.min_saving:.0%} smaller or faster"
    )
    if champion is None:
        return Check(AGAINST_CHAMPION, NO_CHAMPION, allowed, True)
    if isinstance(champion, Unscored):
        return Check(AGAINST_CHAMPION, f"it cannot be scored: {champion.reason}; {BY_HAND}", allowed, False)
    gain = difference(candidate.predictions, champion.predictions, seed)
    outcome, passed = _outcome(limits, gain, candidate.cost, champion.cost)
    counts = (
        f"{_is_correct(candidate.predictions).sum()} of {len(candidate.predictions)} clips right, the champion"
        f" {_is_correct(champion.predictions).sum()} of the same"
    )
    new_labels = sorted(set(candidate.labels) - set(champion.labels))
    note = f"; {_listed(new_labels)} the champion does not know" if new_labels else ""
    return Check(AGAINST_CHAMPION, f"{counts}{note}; {outcome}", allowed, passed)


def _outcome(limits: Gate, gain: Difference, candidate: Cost, champion: Cost) -> tuple[str, bool]:
    if gain.speakers < FEWEST_SPEAKERS:
        return f"too few speakers to tell from chance, {gain.speakers} of at least {FEWEST_SPEAKERS}", False
    interval = (
        f"{_points(gain.mean, '+')}, 95 % interval {_points(gain.low, '+')} to {_points(gain.high, '+')},"
        f" of {gain.speakers} speakers"
    )
    if gain.low > 0 and gain.chance <= CHANCE:
        return f"better beyond chance ({interval})", True
    if gain.speakers < FEWEST_SPEAKERS_AS_GOOD:
        few = f"too few speakers to tell whether as good, {gain.speakers} of at least {FEWEST_SPEAKERS_AS_GOOD}"
        return f"not better beyond chance, and {few} ({interval})", False
    if gain.lowest < -limits.equal_within - _ROUNDING:
        return f"not better beyond chance, and {_doubt(gain)} ({interval})", False
    saving = _saving(limits.min_saving, candidate, champion)
    return f"as good ({interval}), {saving or 'and neither smaller nor faster by enough'}", bool(saving)


def _doubt(gain: Difference) -> str:
    if gain.lost:
        return "not surely as good"
    might = _points(-gain.lowest)
    return f"too few clips to tell whether as good: none of {gain.clips} is lost, up to {might} of more may be"


def _saving(share: float, candidate: Cost, champion: Cost) -> str:
    """Names what is saved; "" if it is less than `share`, or the other quantity grew by more than `share`.

    Faster means faster in every round: on a machine with other work, one measurement says little.
    """
    size = candidate.saved_bytes / champion.saved_bytes
    ratios = [ours / theirs for ours, theirs in zip(candidate.latency_ms, champion.latency_ms, strict=True)]
    time, enough, too_much = statistics.median(ratios), 1 - share + _ROUNDING, 1 + share + _ROUNDING
    savings = [f"{1 - size:.0%} smaller"] * (size <= enough and time <= too_much)
    savings += [f"{1 - time:.0%} faster"] * (max(ratios) <= enough and size <= too_much)
    return " and ".join(savings)


def _recalls(predictions: pd.DataFrame) -> pd.Series:
    return _is_correct(predictions).groupby(predictions["label"]).mean()


def _is_correct(predictions: pd.DataFrame) -> pd.Series:
    return predictions["label"] == predictions["predicted"]


def _listed(labels: Sequence[str]) -> str:
    more = [f"{len(labels) - NAMED_LABELS} more"] * (len(labels) > NAMED_LABELS)
    return ", ".join([*map(repr, labels[:NAMED_LABELS]), *more])


def _points(share: float, sign: str = "") -> str:
    return f"{100 * share:{sign}.2f} points"


def _kilobytes(size: int) -> str:
    return f"{size / 1000:,.0f} kB"
