"""The gate's verdict as numbers and outcomes: `registry.gate` fills it in, `reporting.verdict` writes it as text."""

from dataclasses import dataclass
from enum import Enum, auto

from earmark.reporting.outcomes import Outcome


class Finding(Enum):
    """How the accuracy of a candidate compares with the champion's."""

    BETTER = auto()
    """Significantly better."""
    AS_GOOD = auto()
    """Not worse by more than the gate allows."""
    MAYBE_WORSE = auto()
    TOO_FEW_SPEAKERS = auto()
    """To tell anything."""
    TOO_FEW_SPEAKERS_FOR_AS_GOOD = auto()
    TOO_FEW_CLIPS_FOR_AS_GOOD = auto()


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


@dataclass(frozen=True)
class Comparison:
    """A candidate and the champion on the same clips.

    Attributes:
        correct, champion_correct: clips that each has right.
        new_labels: labels that the champion does not know.
        speakers_needed: for the finding that is missing for lack of speakers; 0 if there are enough.
        smaller, faster: the share that is saved; None if it is less than the gate asks for.
    """

    difference: Difference
    finding: Finding
    correct: int
    champion_correct: int
    new_labels: tuple[str, ...] = ()
    speakers_needed: int = 0
    smaller: float | None = None
    faster: float | None = None


@dataclass(frozen=True)
class Unreadable:
    """A champion that cannot be scored; `error` is one sentence."""

    error: str


@dataclass(frozen=True)
class TrainedOnTest:
    """A champion that cannot be scored: under another split it was trained on `clips` of the `test_clips`."""

    clips: int
    test_clips: int


Unscored = Unreadable | TrainedOnTest


@dataclass(frozen=True)
class Limit:
    """A measured value and its limit."""

    outcome: Outcome
    limit: float
    observed: float


@dataclass(frozen=True)
class UnmeasuredLimit:
    """A limit of what could not be measured."""

    limit: float
    outcome: Outcome = Outcome.NOT_MEASURED


@dataclass(frozen=True)
class RecallDrop:
    """The largest drop in a label's recall against the champion, 0 to 1; `label` is None if no recall dropped."""

    outcome: Outcome
    limit: float
    drop: float = 0.0
    label: str | None = None


@dataclass(frozen=True)
class KnownLabels:
    """The labels of the champion that the candidate does not know."""

    outcome: Outcome
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class AgainstChampion:
    """The comparison with the champion, and what the gate asks for; both are fractions.

    Attributes:
        equal_within: the largest loss of accuracy that is still as good.
        min_saving: how much smaller or faster a version that is as good must be.
        comparison: None if there is no champion, or if it cannot be scored.
    """

    outcome: Outcome
    equal_within: float
    min_saving: float
    comparison: Comparison | None = None


@dataclass(frozen=True)
class Verdict:
    """The outcome of the gate: every criterion, in the order in which it is shown.

    Attributes:
        clips, splits: the clips that the candidate was scored on.
        accuracy, accuracy_at_10_db: fractions.
        unscored: why the champion cannot be scored, None if it can be or if there is none.
        compared_with: number of the champion that the candidate was compared with, "" for none.
    """

    clips: int
    splits: tuple[str, ...]
    accuracy: Limit
    accuracy_at_10_db: Limit | UnmeasuredLimit
    saved_bytes: Limit
    latency_ms_p99: Limit
    recall_drop: RecallDrop
    known_labels: KnownLabels
    against_champion: AgainstChampion
    unscored: Unscored | None = None
    compared_with: str = ""

    @property
    def promoted(self) -> bool:
        """Whether the candidate becomes champion: no criterion failed."""
        limits = (self.accuracy, self.accuracy_at_10_db, self.saved_bytes, self.latency_ms_p99)
        compared = (self.recall_drop, self.known_labels, self.against_champion)
        return all(criterion.outcome is not Outcome.FAILED for criterion in (*limits, *compared))
