"""Which recordings train, validate and test: by speaker, at random, or by given lists."""

import hashlib
import posixpath
from collections.abc import Mapping, Sequence
from typing import Literal

from earmark.errors import UserError

Method = Literal["speaker", "random", "lists"]

_BUCKETS = 2**27 - 1
_VALIDATION_BELOW_PERCENT = 10.0
_TESTING_BELOW_PERCENT = 20.0


def speaker_of(file_name: str) -> str:
    """Return the speaker that a clip's file name states.

    It is the part of the base name before ``_nohash_``; a name without that mark is a speaker of its own, its stem.
    """
    stem, _ = posixpath.splitext(posixpath.basename(file_name))
    return stem.partition("_nohash_")[0]


def speaker_split(speaker: str) -> str:
    """Return "training", "validation" or "testing" for a speaker by the Speech Commands rule.

    The rule hashes the speaker alone, so that recordings added later never move the earlier ones.
    """
    digest = int(hashlib.sha1(speaker.encode("utf-8"), usedforsecurity=False).hexdigest(), 16)
    percent = (digest % (_BUCKETS + 1)) * (100.0 / _BUCKETS)
    if percent < _VALIDATION_BELOW_PERCENT:
        return "validation"
    if percent < _TESTING_BELOW_PERCENT:
        return "testing"
    return "training"


def assign(
    ids: Sequence[str],
    method: Method,
    fractions: Mapping[str, float],
    seed: int,
    validation_list: frozenset[str],
    testing_list: frozenset[str],
) -> list[str]:
    """Return the split of every recording, in the order of ``ids``.

    Args:
        ids: "<label>/<file>" of every recording, each once.
        method: "speaker" keeps a speaker's recordings together by the Speech Commands rule, "random" draws each
            recording by itself with the chances ``fractions``, "lists" takes the two lists and trains on what is
            in neither.
        fractions: shares in [0, 1] of "training", "validation" and "testing", summing to 1; read by "random" only.
        seed: read by "random" only; the draw does not depend on the order of ``ids``.
        validation_list: ids of the validation recordings; read by "lists" only.
        testing_list: ids of the testing recordings; read by "lists" only.

    Raises:
        UserError: "lists" with both lists empty, or with an id that is in both.
    """
    if method == "speaker":
        speakers = [speaker_of(recording) for recording in ids]
        split_of = {speaker: speaker_split(speaker) for speaker in set(speakers)}
        return [split_of[speaker] for speaker in speakers]
    if method == "random":
        return _at_random(ids, fractions, seed)
    return _by_lists(ids, validation_list, testing_list)


def _at_random(ids: Sequence[str], fractions: Mapping[str, float], seed: int) -> list[str]:
    # A draw by hash depends on the recording alone: neither order nor what arrives later moves it.
    return [_drawn(_uniform(recording, seed), fractions) for recording in ids]


def _uniform(recording: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}:{recording}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def _drawn(uniform: float, fractions: Mapping[str, float]) -> str:
    if uniform < fractions["validation"]:
        return "validation"
    return "testing" if uniform < fractions["validation"] + fractions["testing"] else "training"


def _by_lists(ids: Sequence[str], validation: frozenset[str], testing: frozenset[str]) -> list[str]:
    if not validation and not testing:
        raise UserError(
            "split.method is 'lists', but the data set has neither a validation_list.txt nor a testing_list.txt "
            "with entries: allowed without them are speaker and random"
        )
    if shared := validation & testing:
        raise UserError(
            f"'{min(shared)}' is in both validation_list.txt and testing_list.txt: "
            "a recording is allowed in at most one of them"
        )
    return [_membership(recording, validation, testing) for recording in ids]


def _membership(recording: str, validation: frozenset[str], testing: frozenset[str]) -> str:
    if recording in validation:
        return "validation"
    return "testing" if recording in testing else "training"
