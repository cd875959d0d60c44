"""Which keys of a bucket are files of a data set: hostile until proven otherwise."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from earmark.dataset.layout import NOISE_FOLDER, folded, interpret, is_hidden, is_too_long, is_unprintable
from earmark.dataset.sources.archive import MEMBER_LIMIT_BYTES
from earmark.dataset.sources.source_file import Found

_ALLOWED_KEYS = "allowed is <label>/<name>.wav"


class BucketObject(NamedTuple):
    """An object that can be a file of the data set; ``path`` is where in it, ``etag`` has no quotes."""

    key: str
    path: str
    etag: str
    size: int

    @property
    def version(self) -> str:
        """What changes when the object does."""
        return f"{self.etag}:{self.size}"


def judged(listed: Iterable[BucketObject], prefix: str, known_labels: frozenset[str]) -> list[Found | BucketObject]:
    """Return what is a file of the data set, or pretends to be one, sorted by path; the rest is none and left out."""
    refusals: list[Found] = []
    sound = []
    for each in sorted(listed):
        name = each.key.removeprefix(prefix)
        reason = _hostility(name) or oversize(each)
        if interpret(name) is None and not _hostility(name):
            continue
        if reason:
            refusals.append(_refused(each, prefix, reason))
        else:
            sound.append(each)
    return sorted([*refusals, *_told_apart(sound, prefix, known_labels)], key=lambda each: each.path)


def _hostility(name: str) -> str:
    """Return why a key that ends like a clip's, relative to the prefix, is not taken; "" where it is."""
    parts = name.replace("\\", "/").split("/")
    if not name.lower().endswith(".wav") or any(is_hidden(part) and part not in (".", "..") for part in parts):
        return ""
    if "\\" in name:
        return f"the key has a backslash: {_ALLOWED_KEYS}"
    if any(part.strip() in ("", ".", "..") for part in parts):
        return f"a part of the key is empty, '.' or '..': {_ALLOWED_KEYS}"
    if is_too_long(normal(name)):
        return f"a part of the key has more than 255 bytes: {_ALLOWED_KEYS} of names that files can have"
    if is_unprintable(name):
        return f"the key has a control character or is no UTF-8: {_ALLOWED_KEYS} of printable text"
    return ""


def oversize(found: BucketObject) -> str:
    """Return why an object is too large to be taken; "" where it is not."""
    if found.size <= MEMBER_LIMIT_BYTES:
        return ""
    return f"the object has {found.size} bytes: allowed are {MEMBER_LIMIT_BYTES} or less"


def _told_apart(sound: list[BucketObject], prefix: str, known_labels: frozenset[str]) -> Iterator[Found | BucketObject]:
    """Refuse what would be confused with another label or key, in the order of the keys."""
    labels = [_label(each, prefix) for each in sound]
    spellings = _spellings(Counter(filter(None, labels)), known_labels | {NOISE_FOLDER})
    taken: dict[str, str] = {}
    for each, label in zip(sound, labels, strict=True):
        spelling = spellings.get(folded(label), label)
        other = taken.get(each.path)
        if label != spelling:
            reason = f"the label {label!a} differs only in case or Unicode form from {spelling!a}"
            yield _refused(each, prefix, f"{reason}: allowed is one spelling a label")
        elif other is not None:
            yield _refused(each, prefix, f"the key differs only in Unicode form from {other!a}: allowed is one of them")
        else:
            taken[each.path] = each.key.removeprefix(prefix)
            yield each


def _label(found: BucketObject, prefix: str) -> str:
    """Return the label as the key spells it; "" for a list of a split."""
    return found.key.removeprefix(prefix).rpartition("/")[0]


def _spellings(labels: Counter[str], known_labels: frozenset[str]) -> dict[str, str]:
    """Return for each label, folded, the one spelling that is taken: the known one, else that of most keys.

    A known label is in NFC. It may stand for a key's of another form, as those from macOS are, as long as no other key
    spells it as it is known.
    """
    met: dict[str, list[str]] = {}
    for label in labels:
        met.setdefault(folded(label), []).append(label)
    spellings = {form: max(spelled, key=labels.__getitem__) for form, spelled in met.items()}
    for known in sorted(known_labels):
        spelled = met.get(folded(known), [])
        alike = (label for label in spelled if normal(label) == known)
        spellings[folded(known)] = known if known in spelled else next(alike, known)
    return spellings


def normal(text: str) -> str:
    """Return a text in Unicode form NFC."""
    return unicodedata.normalize("NFC", text)


def _refused(found: BucketObject, prefix: str, reason: str) -> Found:
    # Escaped is each name that a terminal would not show as it is, so that two names stay two.
    name = found.key.removeprefix(prefix)
    plain = not is_unprintable(name) and "\\" not in name and name == normal(name)
    return Found(name if plain else ascii(name)[1:-1], found.version, refused=reason)
