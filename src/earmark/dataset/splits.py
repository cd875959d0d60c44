"""Assigns recordings to training, validation and test: by speaker, at random, or by given lists."""

import hashlib
import posixpath
from collections.abc import Mapping, Sequence
from typing import Literal

from earmark.errors import UserError

Method = Literal["speaker", "random", "lists"]
Split = Literal["training", "validation", "test"]

_BUCKETS = 2**27 - 1
_VALIDATION_BELOW_PERCENT = 10.0
_TEST_BELOW_PERCENT = 20.0


def speaker_of(file_name: str) -> str:
    """Return the speaker of a clip: the part of its base name before ``_nohash_``, or else the stem of the name."""
    stem, _ = posixpath.splitext(posixpath.basename(file_name))
    return stem.partition("_nohash_")[0]


def speaker_split(speaker: str) -> Split:
    """Return the split of a speaker by the rule of Speech Commands (`which_set` in its README).

    The rule hashes the speaker alone, so new recordings never move earlier ones to another split.
    """
    digest = int(hashlib.sha1(speaker.encode("utf-8"), usedforsecurity=False).hexdigest(), 16)
    percent = (digest % (_BUCKETS + 1)) * (100.0 / _BUCKETS)
    if percent < _VALIDATION_BELOW_PERCENT:
        return "validation"
    if percent < _TEST_BELOW_PERCENT:
        return "test"
    return "training"


def assign(
    ids: Sequence[str],
    method: Method,
    fractions: Mapping[Split, float],
    seed: int,
    validation_list: frozenset[str],
    test_list: frozenset[str],
) -> list[Split]:
    """Return the split of every recording, in the order of ``ids``.

    Args:
        ids: "<label>/<file>" of every recording, each once.
        method: "speaker" keeps a speaker's recordings together by the rule of Speech Commands; "random" draws each
            recording independently with the probabilities ``fractions``; "lists" follows the two lists and trains on
            recordings that are in neither.
        fractions: shares in [0, 1] that add up to 1; used by "random" only.
        seed: used by "random" only; the draw does not depend on the order of ``ids``.
        validation_list: ids of the validation recordings; used by "lists" only.
        test_list: ids of the test recordings; used by "lists" only.

    Raises:
        UserError: with "lists", both lists are empty or an id is in both.
    """
    if method == "speaker":
        speakers = [speaker_of(recording) for recording in ids]
        split_of = {speaker: speaker_split(speaker) for speaker in set(speakers)}
        return [split_of[speaker] for speaker in speakers]
    if method == "random":
        return _split_randomly(ids, fractions, seed)
    return _split_by_lists(ids, validation_list, test_list)


def _split_randomly(ids: Sequence[str], fractions: Mapping[Split, float], seed: int) -> list[Split]:
    # Drawn by hash: a recording's split depends neither on the order nor on later recordings.
    return [_split_at(_uniform(recording, seed), fractions) for recording in ids]


def _uniform(recording: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}:{recording}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def _split_at(uniform: float, fractions: Mapping[Split, float]) -> Split:
    if uniform < fractions["validation"]:
        return "validation"
    return "test" if uniform < fractions["validation"] + fractions["test"] else "training"


def _split_by_lists(ids: Sequence[str], validation: frozenset[str], test: frozenset[str]) -> list[Split]:
    if not validation and not test:
        raise UserError(
            "split.method is 'lists', but the data set has neither a validation_list.txt nor a testing_list.txt "
            "with entries; expected one of them, or the method speaker or random"
        )
    if shared := validation & test:
        raise UserError(
            f"'{min(shared)}' is in both validation_list.txt and testing_list.txt; expected it in one of them"
        )
    return [_list_of(recording, validation, test) for recording in ids]


def _list_of(recording: str, validation: frozenset[str], test: frozenset[str]) -> Split:
    if recording in validation:
        return "validation"
    return "test" if recording in test else "training"
