"""What a path inside a data set means: a clip with its label, a noise recording, the list of a split, or nothing."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from earmark.errors import UserError

NOISE_FOLDER = "_background_noise_"
LIST_SPLITS: dict[str, Literal["validation", "test"]] = {
    "validation_list.txt": "validation",
    "testing_list.txt": "test",
}

# Control characters, lone surrogates (from names that are not UTF-8), line and paragraph separators. Not "Cf": Persian
# and Indic words contain joiners.
_UNPRINTABLE_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
# They reverse the text that follows, so that one name looks like another.
_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_MAX_NAME_BYTES = 255


@dataclass(frozen=True)
class Clip:
    """A recording with a label; both names are in Unicode form NFC."""

    label: str
    file_name: str

    @property
    def id(self) -> str:
        """`<label>/<file>`, as in the list of a split."""
        return f"{self.label}/{self.file_name}"


@dataclass(frozen=True)
class Noise:
    """A recording of background noise; it can have any length."""

    file_name: str


@dataclass(frozen=True)
class SplitList:
    """A text file that lists the clips of one split, one "<label>/<file>" per line."""

    split: Literal["validation", "test"]


Entry = Clip | Noise | SplitList


def interpret(path: str) -> Entry | None:
    """Return what a POSIX path relative to the data set's root means, or None if it is not part of the data set.

    Part of it are "<label>/<clip>.wav", "_background_noise_/<clip>.wav", "validation_list.txt" and "testing_list.txt";
    ".wav" in any case. Hidden files and folders, and those that macOS adds, are not.
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
    """Return whether a file or folder is hidden, or was added to an archive by macOS."""
    return name.startswith(".") or name == "__MACOSX"


def parse_list(content: bytes, name: str) -> frozenset[str]:
    """Return the ids, "<label>/<file>" in NFC, in the list of a split; blank lines are ignored.

    Raises:
        UserError: the text is not UTF-8, or a line is not "<label>/<clip>.wav"; the error calls the list ``name``.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not UTF-8 at byte {error.start}; expected UTF-8 text") from error
    lines = enumerate(text.split("\n"), start=1)
    return frozenset(_parse_line(line.strip(), name, number).id for number, line in lines if line.strip())


def _parse_line(line: str, name: str, number: int) -> Clip:
    entry = interpret(line)
    if not isinstance(entry, Clip):
        raise UserError(f"{name}, line {number}, is {line!r}; expected <label>/<clip>.wav")
    return entry


def check_labels(labels: Iterable[str]) -> None:
    """Check that people, file systems and a classifier can distinguish a data set's labels.

    Raises:
        UserError: there are fewer than two labels, one is empty or has a control character, or two differ only in
            case or Unicode form.
    """
    spellings: dict[str, str] = {}
    for label in sorted(set(labels)):
        if not label.strip() or is_unprintable(label):
            raise UserError(f"the label {label!r} is empty or has a control character; expected printable text")
        other = spellings.setdefault(folded(label), label)
        if other != label:
            raise UserError(
                f"the labels {other!r} and {label!r} differ only in case or Unicode form; expected one spelling"
            )
    if len(spellings) < 2:
        count = f"only the label {next(iter(spellings.values()))!r}" if spellings else "no label"
        raise UserError(f"the data set has {count}; expected clips <label>/<clip>.wav of at least two labels")


def folded(label: str) -> str:
    """Return a label in a form that ignores case and Unicode form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", label).casefold())


def is_unprintable(text: str) -> bool:
    """Return whether a text has a control character, a line separator, or bytes that were not UTF-8."""
    if text.isascii():
        return not text.isprintable()
    return any(
        character in _DIRECTIONS or unicodedata.category(character) in _UNPRINTABLE_CATEGORIES for character in text
    )


def is_too_long(path: str) -> bool:
    """Return whether a part of a path has more bytes than file systems allow for a name."""
    return any(len(part.encode("utf-8", "surrogatepass")) > _MAX_NAME_BYTES for part in path.split("/"))


@dataclass
class Inventory:
    """The paths of one data set: each occurs once, each label has one spelling.

    ``where`` names the data set in errors.
    """

    where: str
    _paths: set[str] = field(default_factory=set)
    _spellings: dict[str, str] = field(default_factory=dict)

    def admit(self, path: str) -> str | None:
        """Add a path relative to the root; return it in NFC, or None if it is not part of the data set.

        Raises:
            UserError: the path occurred before, perhaps in another Unicode form, has a control character, or is too
                long.
        """
        if interpret(path) is None:
            return None
        if is_unprintable(path):
            raise UserError(f"{self.where} has the name {path!r}; expected printable UTF-8 text")
        normal = unicodedata.normalize("NFC", path)
        if is_too_long(normal):
            raise UserError(f"{self.where} has the name {path[:80]!r}…; expected at most {_MAX_NAME_BYTES} bytes")
        self._check_spelling(path.partition("/")[0])
        if normal in self._paths:
            raise UserError(f"{self.where} has {normal!r} more than once; expected each path once")
        self._paths.add(normal)
        return normal

    def _check_spelling(self, folder: str) -> None:
        other = self._spellings.setdefault(unicodedata.normalize("NFC", folder), folder)
        if other != folder:
            raise UserError(
                f"{self.where} has the folders {other!a} and {folder!a}, which differ only in Unicode form; "
                "expected one folder per label"
            )
