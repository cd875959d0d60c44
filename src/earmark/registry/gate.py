"""Whether a new model takes the champion's place: limits, and a comparison on the same clips. Pure."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from earmark.evaluation import metrics
from earmark.params import Gate

AGAINST_CHAMPION = "against the champion"
NO_CHAMPION = "no champion reigns yet"
NO_NOISE = "not measured: the split has no background noise as long as a clip"
BY_HAND = "a person may promote it all the same"
NAMED_LABELS = 5
CHANCE = 0.025
"""How often a model that is as good may seem better."""
FEWEST_SPEAKERS = math.ceil(math.log2(1 / CHANCE))
"""Of fewer, even that every one gains or loses is chance: all n gain with a chance of 1 in 2 to the n."""
FEWEST_SPEAKERS_AS_GOOD = 30
"""Of fewer, a bootstrap too often overlooks what is lost with some speakers only."""
PERMUTATIONS = 9999
_DRAWN_AT_ONCE = 99
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Cost:
    """What a model costs: bytes as saved, and milliseconds for one clip on one core: the medians of rounds in which all
    contenders were measured in turn, and what 99 of 100 calls stayed below."""

    saved_bytes: int
    latency_ms: tuple[float, ...]
    latency_ms_p99: float


@dataclass(frozen=True)
class Contender:
    """A model as the gate sees it: the labels that it tells apart, what it said, and what it costs.

    `predictions` has a row for each clip of the reporting split, with `label`, `speaker`, `split` and `predicted`.
    """

    labels: tuple[str, ...]
    predictions: pd.DataFrame
    cost: Cost


@dataclass(frozen=True)
class Unscored:
    """A champion that cannot be scored, and why, as one sentence."""

    reason: str


@dataclass(frozen=True)
class Check:
    """One thing that the gate looked at, in texts as people read them."""

    name: str
    observed: str
    allowed: str
    passed: bool


@dataclass(frozen=True)
class Verdict:
    """`promoted`, why, as one sentence, all that was looked at, in the same order in every verdict, and the number of
    the champion that it is about, "" for none."""

    promoted: bool
    reason: str
    checks: tuple[Check, ...]
    judged_against: str = ""

    @property
    def alias(self) -> str:
        """The alias that the version gets."""
        return "champion" if self.promoted else "challenger"


@dataclass(frozen=True)
class Difference:
    """Accuracy of the new model minus the champion's on the same clips, in [-1, 1], with its 95 % interval; `chance` is
    how often as much or more would be gained if both were as good; `lost` counts the clips that only the champion has
    right."""

    mean: float
    low: float
    high: float
    speakers: int
    clips: int
    lost: int
    chance: float

    @property
    def lowest(self) -> float:
        """The smallest plausible difference: `low`; where no clip was lost, so that no resample can show a loss, minus
        3 / `clips`, by the rule of three (Hanley and Lippman-Hand 1983, "If nothing goes wrong, is everything all
        right?")."""
        return self.low if self.lost else min(self.low, -3 / self.clips)


def verdict(
    limits: Gate, new: Contender, accuracy_at_10_db: float | None, champion: Contender | Unscored | None, seed: int
) -> Verdict:
    """Judges `new` by the limits, and against the champion where one reigns.

    `accuracy_at_10_db` is the new one's in background noise, None where the split has none as long as a clip. Promoted
    where all limits hold, and it is better than the champion beyond chance, or as good and smaller or faster.
    ValueError where the two were not scored on the same clips in the same order.
    """
    checks = (
        *_limits(limits, new, accuracy_at_10_db),
        *_of_labels(limits, new, champion),
        _against(limits, new, champion, seed),
    )
    failed = [check for check in checks if not check.passed]
    if not failed:
        return Verdict(True, checks[-1].observed, checks)
    reasons = [f"{check.name}: {check.observed} (needed: {check.allowed})" for check in failed]
    return Verdict(False, "; ".join(reasons), checks)


def difference(new: pd.DataFrame, champion: pd.DataFrame, seed: int) -> Difference:
    """The paired difference in accuracy, with a percentile interval by a bootstrap over speakers: clips of one speaker
    are not independent (Efron and Tibshirani 1993, "An Introduction to the Bootstrap", sections 8.3 and 13.3). The
    chance is that of a permutation test, which holds for few speakers too: what a speaker gains might as well be lost
    (same book, section 15.2)."""
    for column in ("label", "speaker"):
        if new[column].tolist() != champion[column].tolist():
            raise ValueError(f"the two were scored on other clips, or in another order: {column} differs")
    gained = _right(new).to_numpy(int) - _right(champion).to_numpy(int)
    of_speaker, of_silence = metrics.by_speaker(np.column_stack([gained, np.ones(len(gained))]), new)
    sums = metrics.resampled(of_speaker, seed) + of_silence
    low, high = metrics.percentiles(sums[:, 0] / sums[:, 1])
    chance = _chance(of_speaker[:, 0], np.random.default_rng(seed))
    return Difference(float(gained.mean()), low, high, len(of_speaker), len(gained), int((gained < 0).sum()), chance)


def _chance(gained: np.ndarray, generator: np.random.Generator) -> float:
    """How often speakers, (speakers,), gain as much or more in all where each one's gain might as well be a loss."""
    as_much = 0
    # Some at a time, so that memory does not grow with speakers times permutations.
    for _ in range(PERMUTATIONS // _DRAWN_AT_ONCE):
        signs = generator.choice([-1.0, 1.0], size=(_DRAWN_AT_ONCE, len(gained)))
        as_much += int((signs @ gained >= gained.sum()).sum())
    return (1 + as_much) / (1 + PERMUTATIONS)


def _limits(limits: Gate, new: Contender, accuracy_at_10_db: float | None) -> list[Check]:
    accuracy, cost = metrics.accuracy(new.predictions), new.cost
    clips = f"{len(new.predictions)} {' and '.join(sorted(new.predictions['split'].unique()))} clips"
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


def _of_labels(limits: Gate, new: Contender, champion: Contender | Unscored | None) -> list[Check]:
    """Whether a label was lost, or is now found less often."""
    drop, known = "largest drop in recall", "labels of the champion"
    allowed = f"at most {_points(limits.max_label_drop)}, or one clip", "all of them"
    if not isinstance(champion, Contender):
        said = NO_CHAMPION if champion is None else "the champion cannot be scored"
        return [Check(drop, said, allowed[0], True), Check(known, said, allowed[1], True)]
    lost = sorted(set(champion.labels) - set(new.labels))
    drops = (_recalls(champion.predictions) - _recalls(new.predictions)).sort_index()
    # Of a label with few clips, one clip is more than the limit.
    finest = 1 / new.predictions.groupby("label").size().sort_index()
    worst = (drops - finest.clip(lower=limits.max_label_drop)).idxmax()
    observed = f"{_points(drops[worst])}, of {worst!r}" if drops[worst] > 0 else "none"
    passed = drops[worst] <= max(finest[worst], limits.max_label_drop) + _ROUNDING
    return [
        Check(drop, observed, allowed[0], bool(passed)),
        Check(known, f"{_named(lost)} not known; {BY_HAND}" if lost else "all known", allowed[1], not lost),
    ]


def _against(limits: Gate, new: Contender, champion: Contender | Unscored | None, seed: int) -> Check:
    allowed = (
        f"better beyond chance; or surely not worse by more than {_points(limits.equal_within)},"
        f" and {limits.min_saving:.0%} smaller or faster"
    )
    if champion is None:
        return Check(AGAINST_CHAMPION, NO_CHAMPION, allowed, True)
    if isinstance(champion, Unscored):
        return Check(AGAINST_CHAMPION, f"it cannot be scored: {champion.reason}; {BY_HAND}", allowed, False)
    found = difference(new.predictions, champion.predictions, seed)
    says, passed = _outcome(limits, found, new.cost, champion.cost)
    counts = (
        f"{_right(new.predictions).sum()} of {len(new.predictions)} clips right, the champion"
        f" {_right(champion.predictions).sum()} of the same"
    )
    unknown = sorted(set(new.labels) - set(champion.labels))
    ignorance = f"; {_named(unknown)} the champion does not know" if unknown else ""
    return Check(AGAINST_CHAMPION, f"{counts}{ignorance}; {says}", allowed, passed)


def _outcome(limits: Gate, found: Difference, new: Cost, champion: Cost) -> tuple[str, bool]:
    if found.speakers < FEWEST_SPEAKERS:
        return f"too few speakers to tell from chance, {found.speakers} of at least {FEWEST_SPEAKERS}", False
    interval = (
        f"{_points(found.mean, '+')}, 95 % interval {_points(found.low, '+')} to {_points(found.high, '+')},"
        f" of {found.speakers} speakers"
    )
    if found.low > 0 and found.chance <= CHANCE:
        return f"better beyond chance ({interval})", True
    if found.speakers < FEWEST_SPEAKERS_AS_GOOD:
        few = f"too few speakers to tell whether as good, {found.speakers} of at least {FEWEST_SPEAKERS_AS_GOOD}"
        return f"not better beyond chance, and {few} ({interval})", False
    if found.lowest < -limits.equal_within - _ROUNDING:
        return f"not better beyond chance, and {_doubt(found)} ({interval})", False
    cheaper = _saving(limits.min_saving, new, champion)
    return f"as good ({interval}), {cheaper or 'and neither smaller nor faster by enough'}", bool(cheaper)


def _doubt(found: Difference) -> str:
    if found.lost:
        return "not surely as good"
    might = _points(-found.lowest)
    return f"too few clips to tell whether as good: none of {found.clips} is lost, up to {might} of more may be"


def _saving(share: float, new: Cost, champion: Cost) -> str:
    """What is saved, "" where it is not enough, or paid for with too much of the other. What is faster is so in every
    round: on a machine with other work, one measurement says little."""
    size = new.saved_bytes / champion.saved_bytes
    times = [one / other for one, other in zip(new.latency_ms, champion.latency_ms, strict=True)]
    time, enough, too_much = statistics.median(times), 1 - share + _ROUNDING, 1 + share + _ROUNDING
    saved = [f"{1 - size:.0%} smaller"] * (size <= enough and time <= too_much)
    saved += [f"{1 - time:.0%} faster"] * (max(times) <= enough and size <= too_much)
    return " and ".join(saved)


def _recalls(predictions: pd.DataFrame) -> pd.Series:
    return _right(predictions).groupby(predictions["label"]).mean()


def _right(predictions: pd.DataFrame) -> pd.Series:
    return predictions["label"] == predictions["predicted"]


def _named(labels: Sequence[str]) -> str:
    more = [f"{len(labels) - NAMED_LABELS} more"] * (len(labels) > NAMED_LABELS)
    return ", ".join([*map(repr, labels[:NAMED_LABELS]), *more])


def _points(share: float, sign: str = "") -> str:
    return f"{100 * share:{sign}.2f} points"


def _kilobytes(size: int) -> str:
    return f"{size / 1000:,.0f} kB"
