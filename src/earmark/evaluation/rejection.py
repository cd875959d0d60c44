"""The rejection threshold: answers with a lower probability are not accepted. Pure."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Answers:
    """A classifier's answers for clips and background noise; all arrays are (answers,).

    Attributes:
        probability: float in [0, 1], of the most probable label.
        is_word: whether that label is a word, and neither silence nor unknown.
        is_right: whether that label is the true one.
        of_word: whether a whole word was said, so that it can be missed.
    """

    probability: np.ndarray
    is_word: Flags
    is_right: Flags
    of_word: Flags

    @property
    def hits(self) -> Flags:
        """Which answers are words that were recognised."""
        return self.of_word & self.is_right

    @property
    def false_words(self) -> Flags:
        """Which answers are words that nobody said."""
        return self.is_word & ~self.is_right


def fit_threshold(answers: Answers) -> float:
    """Returns the threshold with the fewest mistakes; of several equally good ones the middle one.

    A missed word counts as much as a wrong word that is accepted.
    """
    values = np.unique(np.r_[0.0, answers.probability, 1.0])
    thresholds = np.r_[0.0, (values[1:] + values[:-1]) / 2]
    mistakes = _below(answers.probability[answers.hits], thresholds)
    mistakes = mistakes + answers.false_words.sum() - _below(answers.probability[answers.false_words], thresholds)
    best = np.flatnonzero(mistakes == mistakes.min())
    return float(thresholds[best[len(best) // 2]])


def _below(probabilities: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    return np.searchsorted(np.sort(probabilities), thresholds, side="left")


def rates(answers: Answers, threshold: float) -> dict[str, float]:
    """Returns the error rates at a threshold; a rate is 0 if there are no such clips.

    `miss_rate` is the share of words that are not accepted as what they are. `false_accept_rate` is the share of all
    clips that are accepted as a word that nobody said.
    """
    accepted = answers.probability >= threshold
    words = max(1, int(answers.of_word.sum()))
    return {
        "miss_rate": 1.0 - float((answers.hits & accepted).sum()) / words if answers.of_word.any() else 0.0,
        "false_accept_rate": float((answers.false_words & accepted).sum()) / max(1, len(accepted)),
    }


def answers(
    predicted: np.ndarray,
    probability: np.ndarray,
    truth: np.ndarray,
    not_words: tuple[str, ...],
    whole: Flags | bool,
) -> Answers:
    """Returns the answers for predicted and true labels, text (answers,).

    The truth of background noise is "". A clip that is not `whole` has a part of a word, so it cannot be missed.
    """
    predicted, truth = predicted.astype(str), truth.astype(str)
    of_word = ~np.isin(truth, ["", *not_words]) & whole
    return Answers(probability, ~np.isin(predicted, not_words), predicted == truth, of_word)


def poisson_interval(count: int) -> list[float]:
    """The exact 95 % interval, [low, high], of a Poisson mean of which `count` events were observed (Garwood 1936,
    "Fiducial Limits for the Poisson Distribution")."""
    from scipy.stats import chi2

    return [float(chi2.ppf(0.025, 2 * count)) / 2 if count else 0.0, float(chi2.ppf(0.975, 2 * count + 2)) / 2]
