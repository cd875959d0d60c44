"""Below which probability an answer is none. Pure."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Answers:
    """What a classifier says of clips, and of background noise.

    Attributes:
        probability: float (answers,) in [0, 1], of the most probable label.
        is_word: bool (answers,), whether that label is a word, and not what stands for none.
        is_right: bool (answers,), whether it is the clip's own.
        of_word: bool (answers,), whether a word was said, and can be missed.
    """

    probability: np.ndarray
    is_word: np.ndarray
    is_right: np.ndarray
    of_word: np.ndarray

    @property
    def hits(self) -> np.ndarray:
        """Words that were taken for what they are."""
        return self.of_word & self.is_right

    @property
    def false_words(self) -> np.ndarray:
        """Words that nobody said."""
        return self.is_word & ~self.is_right


def fit_threshold(answers: Answers) -> float:
    """The probability from which on accepting an answer makes the fewest mistakes: a word that is missed counts as much
    as one that is accepted and wrong. Of several that are as good, the middle one."""
    values = np.unique(np.r_[0.0, answers.probability, 1.0])
    thresholds = np.r_[0.0, (values[1:] + values[:-1]) / 2]
    mistakes = _below(answers.probability[answers.hits], thresholds)
    mistakes = mistakes + answers.false_words.sum() - _below(answers.probability[answers.false_words], thresholds)
    best = np.flatnonzero(mistakes == mistakes.min())
    return float(thresholds[best[len(best) // 2]])


def _below(probabilities: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    return np.searchsorted(np.sort(probabilities), thresholds, side="left")


def rates(answers: Answers, threshold: float) -> dict[str, float]:
    """`miss_rate`: of the clips of words, those that are not accepted as what they are; `false_accept_rate`: of all
    clips, those that are accepted as a word that was not said. 0 of no clips."""
    accepted = answers.probability >= threshold
    words = max(1, int(answers.of_word.sum()))
    return {
        "miss_rate": 1.0 - float((answers.hits & accepted).sum()) / words if answers.of_word.any() else 0.0,
        "false_accept_rate": float((answers.false_words & accepted).sum()) / max(1, len(accepted)),
    }


def answers(
    said: np.ndarray, probability: np.ndarray, truth: np.ndarray, not_words: tuple[str, ...], whole: np.ndarray | bool
) -> Answers:
    """Answers of the labels that were said, with their probabilities, and the true ones, text of (answers,); the truth
    of background noise is "". What is not `whole` is a part of a word, which may be recognised or not."""
    said, truth = said.astype(str), truth.astype(str)
    of_word = ~np.isin(truth, ["", *not_words]) & whole
    return Answers(probability, ~np.isin(said, not_words), said == truth, of_word)


def poisson_interval(count: int) -> list[float]:
    """The exact 95 % interval, [low, high], of how many there are on average where `count` were seen (Garwood 1936,
    "Fiducial Limits for the Poisson Distribution")."""
    from scipy.stats import chi2

    return [float(chi2.ppf(0.025, 2 * count)) / 2 if count else 0.0, float(chi2.ppf(0.975, 2 * count + 2)) / 2]
