"""What a path inside a data set means: a clip of a label, a noise recording, a list of a split, or nothing."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from earmark.errors import UserError

NOISE_FOLDER = "_background_noise_"
LIST_SPLITS: dict[str, Literal["validation", "testing"]] = {
    "validation_list.txt": "validation",
    "testing_list.txt": "testing",
}

# Control characters, lone surrogates (names that are no UTF-8), line and paragraph separators. Not "Cf": Persian
# and Indic words hold joiners.
_UNPRINTABLE_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
# They turn the order of what follows, so that a name shows as another one.
_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_LONGEST_NAME_BYTES = 255


@dataclass(frozen=True)
class Clip:
    """A recording of one label; both names are in Unicode form NFC."""

    label: str
    file_name: str

    @property
    def id(self) -> str:
        """Its "<label>/<file>", as the lists of a split name it."""
        return f"{self.label}/{self.file_name}"


@dataclass(frozen=True)
class Noise:
    """A recording of background noise, of any length."""

    file_name: str


@dataclass(frozen=True)
class SplitList:
    """A text file that lists the clips of one split, one "<label>/<file>" a line."""

    split: Literal["validation", "testing"]


Entry = Clip | Noise | SplitList


def interpret(path: str) -> Entry | None:
    """Return what a POSIX path relative to the data set's root is, or None for a file that is no part of it.

    Nothing else than "<label>/<clip>.wav", "_background_noise_/<clip>.wav", "validation_list.txt" and
    "testing_list.txt" is; ".wav" in any case. Hidden files and folders, and what macOS adds, are none.
    """
    parts = unicodedata.normalize("NFC", path).split("/")
    if not all(parts) or any(map(is_hidden, parts)):
        return None
    if len(parts) == 1 and parts[0] in LIST_SPLITS:
        return SplitList(LIST_SPLITS[parts[0]])
    if len(parts) != 2 or not parts[1].lower().endswith(".wav"):
        return None
    folder, file_name = parts
    return Noise(file_name) if folder == NOISE_FOLDER else Clip(folder, file_name)


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is hidden, or is one that macOS adds to an archive."""
    return name.startswith(".") or name == "__MACOSX"


def parse_list(content: bytes, name: str) -> frozenset[str]:
    """Return the ids, "<label>/<file>" in NFC, of a list's UTF-8 text with one a line; blank lines count for nothing.

    Raises:
        UserError: the text is no UTF-8, or a line is no "<label>/<clip>.wav"; ``name`` says of which list.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not UTF-8 at byte {error.start}: allowed is UTF-8 text") from error
    lines = enumerate(text.split("\n"), start=1)
    return frozenset(_listed_clip(line.strip(), name, number).id for number, line in lines if line.strip())


def _listed_clip(line: str, name: str, number: int) -> Clip:
    entry = interpret(line)
    if not isinstance(entry, Clip):
        raise UserError(f"{name}, line {number}, is {line!r}: allowed is <label>/<clip>.wav")
    return entry


def check_labels(labels: Iterable[str]) -> None:
    """Check that a data set's labels can be told apart by people, file systems and a classifier.

    Raises:
        UserError: fewer than two labels, an empty one, one with a control character, or two that differ only in
            case or Unicode form.
    """
    known: dict[str, str] = {}
    for label in sorted(set(labels)):
        if not label.strip() or is_unprintable(label):
            raise UserError(f"the label {label!r} is empty or has a control character: allowed is printable text")
        other = known.setdefault(folded(label), label)
        if other != label:
            raise UserError(
                f"the labels {other!r} and {label!r} differ only in case or Unicode form: "
                "allowed are labels that still differ without regard to either"
            )
    if len(known) < 2:
        found = f"only the label {next(iter(known.values()))!r}" if known else "no label"
        raise UserError(f"the data set has {found}: needed are clips <label>/<clip>.wav of at least two labels")


def folded(label: str) -> str:
    """Return a label without regard to case and Unicode form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", label).casefold())


def is_unprintable(text: str) -> bool:
    """Return whether a text has a control character, a line separator, or bytes that were no UTF-8."""
    if text.isascii():
        return not text.isprintable()
    return any(
        character in _DIRECTIONS or unicodedata.category(character) in _UNPRINTABLE_CATEGORIES for character in text
    )


def is_too_long(path: str) -> bool:
    """Return whether a part of a path has more bytes than file systems allow for a name."""
    return any(len(part.encode("utf-8", "surrogatepass")) > _LONGEST_NAME_BYTES for part in path.split("/"))


@dataclass
class Inventory:
    """The paths met in one data set: each once, each label spelled one way; ``where`` names the data set in errors."""

    where: str
    _paths: set[str] = field(default_factory=set)
    _spellings: dict[str, str] = field(default_factory=dict)

    def admit(self, path: str) -> str | None:
        """Return a path, relative to the root, in NFC, or None for a file that is no part of the data set.

        Raises:
            UserError: the path was met before, perhaps in another Unicode form, or has a control character.
        """
        if interpret(path) is None:
            return None
        if is_unprintable(path):
            raise UserError(f"{self.where} has the name {path!r}: allowed are names of printable UTF-8 text")
        normal = unicodedata.normalize("NFC", path)
        if is_too_long(normal):
            raise UserError(
                f"{self.where} has the name {path[:80]!r}…: allowed are names of at most {_LONGEST_NAME_BYTES} bytes"
            )
        self._check_spelling(path.partition("/")[0])
        if normal in self._paths:
            raise UserError(f"{self.where} has {normal!r} more than once: allowed is each path once")
        self._paths.add(normal)
        return normal

    def _check_spelling(self, folder: str) -> None:
        known = self._spellings.setdefault(unicodedata.normalize("NFC", folder), folder)
        if known != folder:
            raise UserError(
                f"{self.where} has the folders {known!a} and {folder!a}, which differ only in Unicode form: "
                "allowed is one folder a label"
            )
