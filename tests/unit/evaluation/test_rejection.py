"""The probability below which an answer is none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earmark.evaluation import rejection

NOT_WORDS = ("_unknown_", "_silence_")


def answers(*rows: tuple[str, float, str]) -> rejection.Answers:
    predicted, probability, truth = (np.array(column) for column in zip(*rows, strict=True))
    return rejection.answers(predicted, probability.astype(float), truth, NOT_WORDS, whole=True)


def test_noise_that_was_taken_for_a_word_is_kept_out():
    given = answers(("yes", 0.9, "yes"), ("no", 0.8, "no"), ("yes", 0.6, ""), ("no", 0.3, "_unknown_"))
    threshold = rejection.fit_threshold(given)
    assert 0.6 < threshold < 0.8
    assert rejection.rates(given, threshold) == {"miss_rate": 0.0, "false_accept_rate": 0.0}


def test_where_nothing_tells_them_apart_the_fewest_mistakes_decide():
    given = answers(*[("yes", 0.5, "yes")] * 3, ("yes", 0.6, ""), ("yes", 0.6, ""))
    assert rejection.fit_threshold(given) < 0.5
    given = answers(*[("yes", 0.5, "yes")] * 2, *[("yes", 0.6, "")] * 3)
    assert rejection.fit_threshold(given) > 0.6


def test_silence_taken_for_silence_or_for_unknown_words_is_no_false_accept():
    given = answers(("_silence_", 0.9, "_silence_"), ("_unknown_", 0.9, "_silence_"), ("yes", 0.9, "yes"))
    assert rejection.rates(given, 0.5) == {"miss_rate": 0.0, "false_accept_rate": 0.0}


def test_a_word_taken_for_another_is_both_missed_and_falsely_accepted():
    given = answers(("yes", 0.9, "no"), ("_unknown_", 0.9, "no"), ("no", 0.9, "no"), ("no", 0.2, "no"))
    assert rejection.rates(given, 0.5) == {"miss_rate": 0.75, "false_accept_rate": 0.25}


def test_a_part_of_a_word_is_not_missed_but_must_not_be_another():
    predicted, truth = np.array(["yes", "yes", "no"]), np.array(["yes", "yes", "yes"])
    whole = np.array([True, False, False])
    given = rejection.answers(predicted, np.array([0.9, 0.6, 0.5]), truth, NOT_WORDS, whole)
    assert rejection.rates(given, 0.7) == {"miss_rate": 0.0, "false_accept_rate": 0.0}
    assert rejection.rates(given, 0.4)["false_accept_rate"] == 1 / 3
    assert rejection.fit_threshold(given) > 0.5


def test_the_interval_of_a_rare_event_is_the_exact_one():
    assert rejection.poisson_interval(0) == pytest.approx([0.0, 3.689], abs=1e-3)
    assert rejection.poisson_interval(5) == pytest.approx([1.623, 11.668], abs=1e-3)


def test_without_words_there_is_nothing_to_miss():
    assert rejection.rates(answers(("yes", 0.9, "")), 0.95)["miss_rate"] == 0.0


labels = st.sampled_from(["yes", "no", *NOT_WORDS])
probabilities = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.7, 0.9, 1.0])


@given(st.lists(st.tuples(labels, probabilities, labels | st.just("")), min_size=1, max_size=30))
def test_no_other_threshold_makes_fewer_mistakes(rows):
    given = answers(*rows)

    def mistakes(threshold: float) -> int:
        accepted = [(predicted, truth) for predicted, probability, truth in rows if probability >= threshold]
        hits = sum(predicted == truth and predicted not in NOT_WORDS for predicted, truth in accepted)
        wrong = sum(predicted != truth and predicted not in NOT_WORDS for predicted, truth in accepted)
        return wrong - hits

    chosen = rejection.fit_threshold(given)
    assert 0 <= chosen <= 1
    assert mistakes(chosen) == min(map(mistakes, [0.0, 0.05, 0.2, 0.3, 0.6, 0.8, 0.95]))
