"""Decides whether a candidate replaces the champion: limits, and a comparison on the same clips. Pure."""

import math
import statistics
from dataclasses import dataclass

import numpy as np
import pandas as pd

from earmark.evaluation import metrics
from earmark.params import Gate
from earmark.reporting.gate_result import (
    AgainstChampion,
    Comparison,
    Difference,
    Finding,
    KnownLabels,
    Limit,
    RecallDrop,
    UnmeasuredLimit,
    Unscored,
    Verdict,
)
from earmark.reporting.outcomes import Outcome

CHANCE = 0.025
"""Significance level: how often a model that is only as good may pass for better."""
FEWEST_SPEAKERS = math.ceil(math.log2(1 / CHANCE))
"""With fewer speakers nothing is significant: that all n speakers gain has a probability of 2^-n by chance."""
FEWEST_SPEAKERS_AS_GOOD = 30
"""With fewer speakers the bootstrap too often misses a loss that only some of them show."""
_SPEAKERS_NEEDED = {
    Finding.TOO_FEW_SPEAKERS: FEWEST_SPEAKERS,
    Finding.TOO_FEW_SPEAKERS_FOR_AS_GOOD: FEWEST_SPEAKERS_AS_GOOD,
}
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
    predictions, cost = candidate.predictions, candidate.cost
    contender = champion if isinstance(champion, Contender) else None
    return Verdict(
        clips=len(predictions),
        splits=tuple(sorted(predictions["split"].unique())),
        accuracy=_at_least(limits.min_accuracy, metrics.accuracy(predictions)),
        accuracy_at_10_db=_accuracy_at_10_db(limits, accuracy_at_10_db),
        saved_bytes=_at_most(limits.max_saved_bytes, cost.saved_bytes),
        latency_ms_p99=_at_most(limits.max_latency_ms_p99, cost.latency_ms_p99),
        recall_drop=_recall_drop(limits, candidate, contender),
        known_labels=_known_labels(candidate, contender),
        against_champion=_against_champion(limits, candidate, champion, seed),
        unscored=None if isinstance(champion, Contender) else champion,
    )


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


def _at_least(limit: float, observed: float) -> Limit:
    return Limit(_outcome(observed >= limit), limit, observed)


def _accuracy_at_10_db(limits: Gate, accuracy: float | None) -> Limit | UnmeasuredLimit:
    limit = limits.min_accuracy_at_10_db
    return UnmeasuredLimit(limit) if accuracy is None else _at_least(limit, accuracy)


def _at_most(limit: float, observed: float) -> Limit:
    return Limit(_outcome(observed <= limit), limit, observed)


def _outcome(passed: bool) -> Outcome:
    return Outcome.PASSED if passed else Outcome.FAILED


def _recall_drop(limits: Gate, candidate: Contender, champion: Contender | None) -> RecallDrop:
    if champion is None:
        return RecallDrop(Outcome.NOT_MEASURED, limits.max_label_drop)
    drops = (_recalls(champion.predictions) - _recalls(candidate.predictions)).sort_index()
    # For a label with few clips, a single clip is more than the limit.
    one_clip = 1 / candidate.predictions.groupby("label").size().sort_index()
    worst = str((drops - one_clip.clip(lower=limits.max_label_drop)).idxmax())
    drop = float(drops[worst])
    passed = drop <= max(float(one_clip[worst]), limits.max_label_drop) + _ROUNDING
    return RecallDrop(_outcome(passed), limits.max_label_drop, max(drop, 0.0), worst if drop > 0 else None)


def _known_labels(candidate: Contender, champion: Contender | None) -> KnownLabels:
    if champion is None:
        return KnownLabels(Outcome.NOT_MEASURED)
    missing = tuple(sorted(set(champion.labels) - set(candidate.labels)))
    return KnownLabels(_outcome(not missing), missing)


def _against_champion(
    limits: Gate, candidate: Contender, champion: Contender | Unscored | None, seed: int
) -> AgainstChampion:
    if not isinstance(champion, Contender):
        # Only a person replaces a champion that cannot be scored.
        outcome = Outcome.NOT_MEASURED if champion is None else Outcome.FAILED
        return AgainstChampion(outcome, limits.equal_within, limits.min_saving)
    comparison = _comparison(limits, candidate, champion, seed)
    saves = comparison.smaller is not None or comparison.faster is not None
    passed = comparison.finding is Finding.BETTER or (comparison.finding is Finding.AS_GOOD and saves)
    return AgainstChampion(_outcome(passed), limits.equal_within, limits.min_saving, comparison)


def _comparison(limits: Gate, candidate: Contender, champion: Contender, seed: int) -> Comparison:
    gain = difference(candidate.predictions, champion.predictions, seed)
    finding = _finding(limits, gain)
    smaller, faster = _savings(limits.min_saving, candidate.cost, champion.cost)
    return Comparison(
        difference=gain,
        finding=finding,
        correct=int(_is_correct(candidate.predictions).sum()),
        champion_correct=int(_is_correct(champion.predictions).sum()),
        new_labels=tuple(sorted(set(candidate.labels) - set(champion.labels))),
        speakers_needed=_SPEAKERS_NEEDED.get(finding, 0),
        smaller=smaller,
        faster=faster,
    )


def _finding(limits: Gate, gain: Difference) -> Finding:
    if gain.speakers < FEWEST_SPEAKERS:
        return Finding.TOO_FEW_SPEAKERS
    if gain.low > 0 and gain.chance <= CHANCE:
        return Finding.BETTER
    if gain.speakers < FEWEST_SPEAKERS_AS_GOOD:
        return Finding.TOO_FEW_SPEAKERS_FOR_AS_GOOD
    if gain.lowest < -limits.equal_within - _ROUNDING:
        return Finding.MAYBE_WORSE if gain.lost else Finding.TOO_FEW_CLIPS_FOR_AS_GOOD
    return Finding.AS_GOOD


def _savings(share: float, candidate: Cost, champion: Cost) -> tuple[float | None, float | None]:
    """How much smaller and faster the candidate is.

    None if that is less than `share`, or if the other quantity grew by more than `share`. Faster means faster in every
    round: on a machine with other work, one measurement says little.
    """
    size = candidate.saved_bytes / champion.saved_bytes
    ratios = [ours / theirs for ours, theirs in zip(candidate.latency_ms, champion.latency_ms, strict=True)]
    time, enough, too_much = statistics.median(ratios), 1 - share + _ROUNDING, 1 + share + _ROUNDING
    smaller = 1 - size if size <= enough and time <= too_much else None
    faster = 1 - time if max(ratios) <= enough and size <= too_much else None
    return smaller, faster


def _recalls(predictions: pd.DataFrame) -> pd.Series:
    return _is_correct(predictions).groupby(predictions["label"]).mean()


def _is_correct(predictions: pd.DataFrame) -> pd.Series:
    return predictions["label"] == predictions["predicted"]
