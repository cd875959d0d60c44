"""Splits: the Speech Commands rule against its authors' own lists, and the two others against what they promise."""

import random
import tarfile
from collections import Counter

import pytest
from conftest import EXCERPT
from hypothesis import given
from hypothesis import strategies as st

from earmark.dataset.layout import LIST_SPLITS
from earmark.dataset.splits import assign, speaker_of, speaker_split
from earmark.errors import UserError

NONE: frozenset[str] = frozenset()
FRACTIONS = {"training": 0.8, "validation": 0.1, "test": 0.1}
IDS = [f"{label}/{speaker:04x}_nohash_0.wav" for label in ("yes", "grüß gott") for speaker in range(100)]


@pytest.fixture(scope="module")
def official_lists() -> dict[str, list[str]]:
    if not EXCERPT.is_file():
        pytest.skip(f"the official lists are in {EXCERPT.name}, which is not beside this checkout")
    lists = {}
    with tarfile.open(EXCERPT) as archive:
        for name, split in LIST_SPLITS.items():
            lists[split] = archive.extractfile(f"speech_commands_v0.01/{name}").read().decode().split()
    return lists


def test_the_rule_agrees_with_every_entry_of_the_official_lists(official_lists):
    assert sum(map(len, official_lists.values())) == 13_633
    for split, ids in official_lists.items():
        assert set(assign(ids, "speaker", FRACTIONS, 0, NONE, NONE)) == {split}


def test_a_clip_that_the_official_lists_leave_out_is_for_training(official_lists):
    listed = {recording for ids in official_lists.values() for recording in ids}
    with tarfile.open(EXCERPT) as archive:
        ids = [name.partition("/")[2] for name in archive.getnames() if "_nohash_" in name]
    left_out = [recording for recording in ids if recording not in listed]
    assert len(left_out) > 1000
    assert set(assign(left_out, "speaker", FRACTIONS, 0, NONE, NONE)) == {"training"}


@pytest.mark.parametrize(
    ("file_name", "speaker"),
    [
        ("d1a17cbe_nohash_1.wav", "d1a17cbe"),
        ("yes/d1a17cbe_nohash_12.wav", "d1a17cbe"),
        ("a_nohash_b_nohash_0.wav", "a"),
        ("front door.wav", "front door"),
        ("take.2.WAV", "take.2"),
        ("grüß_nohash_0.wav", "grüß"),
    ],
)
def test_speaker_is_what_stands_before_the_mark(file_name, speaker):
    assert speaker_of(file_name) == speaker


def test_a_speaker_has_one_split_under_every_label():
    splits = dict(zip(IDS, assign(IDS, "speaker", FRACTIONS, 0, NONE, NONE), strict=True))
    for recording, split in splits.items():
        assert split == splits["yes/" + recording.partition("/")[2]]


def test_the_rule_gives_about_a_tenth_each_to_validation_and_testing():
    counts = Counter(speaker_split(f"{speaker:08x}") for speaker in range(10_000))
    # Binomial(10,000, 0.1) has a standard deviation of 30; these are four of them.
    assert abs(counts["validation"] - 1000) < 120
    assert abs(counts["test"] - 1000) < 120
    assert counts.total() == 10_000


def test_random_has_about_the_shares_of_its_fractions():
    ids = [f"a/{number}.wav" for number in range(10_000)]
    counts = Counter(assign(ids, "random", {"training": 0.7, "validation": 0.25, "test": 0.05}, 1, NONE, NONE))
    # Standard deviations of the binomial distributions are 43 and 22; these are four of them.
    assert abs(counts["validation"] - 2500) < 173
    assert abs(counts["test"] - 500) < 87
    assert counts.total() == 10_000


def test_random_without_a_testing_share_tests_nothing():
    splits = assign(IDS, "random", {"training": 0.8, "validation": 0.2, "test": 0.0}, 1, NONE, NONE)
    assert set(splits) == {"training", "validation"}


def test_recordings_that_arrive_later_move_no_earlier_one():
    before = assign(IDS, "random", FRACTIONS, 1, NONE, NONE)
    after = assign([f"new/{number}.wav" for number in range(500)] + IDS, "random", FRACTIONS, 1, NONE, NONE)
    assert after[500:] == before


@given(order=st.randoms(use_true_random=False), seed=st.integers(0, 2**32))
def test_random_depends_on_the_seed_and_not_on_the_order(order: random.Random, seed: int):
    shuffled = order.sample(IDS, len(IDS))
    expected = dict(zip(IDS, assign(IDS, "random", FRACTIONS, seed, NONE, NONE), strict=True))
    assert dict(zip(shuffled, assign(shuffled, "random", FRACTIONS, seed, NONE, NONE), strict=True)) == expected
    assert assign(IDS, "random", FRACTIONS, seed + 1, NONE, NONE) != list(expected.values())


def test_lists_say_who_validates_and_who_tests():
    validation, test = frozenset({"yes/a.wav", "no/gone.wav"}), frozenset({"no/a.wav"})
    splits = assign(["no/a.wav", "yes/a.wav", "yes/b.wav"], "lists", FRACTIONS, 0, validation, test)
    assert splits == ["test", "validation", "training"]


def test_lists_may_be_one_list_alone():
    assert assign(["yes/a.wav"], "lists", FRACTIONS, 0, NONE, frozenset({"yes/a.wav"})) == ["test"]


def test_lists_without_entries_are_refused():
    with pytest.raises(UserError, match=r"split\.method is 'lists'.*neither"):
        assign(IDS, "lists", FRACTIONS, 0, NONE, NONE)


def test_lists_that_share_a_recording_are_refused():
    with pytest.raises(UserError, match=r"'yes/a\.wav' is in both"):
        assign(IDS, "lists", FRACTIONS, 0, frozenset({"yes/a.wav", "yes/b.wav"}), frozenset({"yes/a.wav"}))


@pytest.mark.parametrize("method", ["speaker", "random"])
def test_no_recordings_have_no_splits(method):
    assert assign([], method, FRACTIONS, 0, NONE, NONE) == []
