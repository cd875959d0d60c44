"""Decides which keys of a bucket are files of a data set; anybody can write a key, so none is trusted."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from earmark.dataset.layout import NOISE_FOLDER, folded, interpret, is_hidden, is_too_long, is_unprintable
from earmark.dataset.sources.archive import MEMBER_LIMIT_BYTES
from earmark.dataset.sources.source_file import SourceFile

_EXPECTED_KEYS = "expected <label>/<name>.wav"


class BucketObject(NamedTuple):
    """An object that may be a file of the data set; ``path`` is relative to its root, ``etag`` has no quotes."""

    key: str
    path: str
    etag: str
    size: int

    @property
    def version(self) -> str:
        """Changes when the object does."""
        return f"{self.etag}:{self.size}"


def classify(
    objects: Iterable[BucketObject], prefix: str, existing_labels: frozenset[str]
) -> list[SourceFile | BucketObject]:
    """Return the files of the data set and, with the reason, those that are refused, sorted by path.

    Objects that are not part of the data set are left out.
    """
    refusals: list[SourceFile] = []
    accepted = []
    for item in sorted(objects):
        name = item.key.removeprefix(prefix)
        reason = _key_problem(name) or oversize(item)
        if interpret(name) is None and not _key_problem(name):
            continue
        if reason:
            refusals.append(_refuse(item, prefix, reason))
        else:
            accepted.append(item)
    return sorted([*refusals, *_check_spellings(accepted, prefix, existing_labels)], key=lambda item: item.path)


def _key_problem(name: str) -> str:
    """Return why a key, relative to the prefix, that looks like a clip is refused; "" if it is not."""
    parts = name.replace("\\", "/").split("/")
    if not name.lower().endswith(".wav") or any(is_hidden(part) and part not in (".", "..") for part in parts):
        return ""
    if "\\" in name:
        return f"the key has a backslash; {_EXPECTED_KEYS}"
    if any(part.strip() in ("", ".", "..") for part in parts):
        return f"a part of the key is empty, '.' or '..'; {_EXPECTED_KEYS}"
    if is_too_long(normal(name)):
        return f"a part of the key has more than 255 bytes; {_EXPECTED_KEYS} with names that files can have"
    if is_unprintable(name):
        return f"the key has a control character or is not UTF-8; {_EXPECTED_KEYS} in printable text"
    return ""


def oversize(item: BucketObject) -> str:
    """Return why an object is too large; "" if it is not."""
    if item.size <= MEMBER_LIMIT_BYTES:
        return ""
    return f"the object has {item.size} bytes; expected at most {MEMBER_LIMIT_BYTES}"


def _check_spellings(
    objects: list[BucketObject], prefix: str, existing_labels: frozenset[str]
) -> Iterator[SourceFile | BucketObject]:
    """Refuse objects whose label or key can be mistaken for another one; keep the order."""
    labels = [_label(item, prefix) for item in objects]
    spellings = _spellings(Counter(filter(None, labels)), existing_labels | {NOISE_FOLDER})
    names: dict[str, str] = {}
    for item, label in zip(objects, labels, strict=True):
        spelling = spellings.get(folded(label), label)
        other = names.get(item.path)
        if label != spelling:
            reason = f"the label {label!a} differs only in case or Unicode form from {spelling!a}"
            yield _refuse(item, prefix, f"{reason}; expected one spelling per label")
        elif other is not None:
            yield _refuse(item, prefix, f"the key differs only in Unicode form from {other!a}; expected one of them")
        else:
            names[item.path] = item.key.removeprefix(prefix)
            yield item


def _label(item: BucketObject, prefix: str) -> str:
    """Return the label as the key spells it; "" for the list of a split."""
    return item.key.removeprefix(prefix).rpartition("/")[0]


def _spellings(labels: Counter[str], existing_labels: frozenset[str]) -> dict[str, str]:
    """Return folded label -> the accepted spelling: that of an existing label, else that of most keys.

    An existing label is in NFC. If no key spells it in NFC, another Unicode form of it is accepted, such as macOS
    writes.
    """
    variants: dict[str, list[str]] = {}
    for label in labels:
        variants.setdefault(folded(label), []).append(label)
    spellings = {form: max(spelled, key=labels.__getitem__) for form, spelled in variants.items()}
    for existing in sorted(existing_labels):
        spelled = variants.get(folded(existing), [])
        same = (label for label in spelled if normal(label) == existing)
        spellings[folded(existing)] = existing if existing in spelled else next(same, existing)
    return spellings


def normal(text: str) -> str:
    """Return a text in Unicode form NFC."""
    return unicodedata.normalize("NFC", text)


def _refuse(item: BucketObject, prefix: str, reason: str) -> SourceFile:
    # A name that a terminal would show differently is escaped, so that different names look different.
    name = item.key.removeprefix(prefix)
    is_plain = not is_unprintable(name) and "\\" not in name and name == normal(name)
    return SourceFile(name if is_plain else ascii(name)[1:-1], item.version, refused=reason)
