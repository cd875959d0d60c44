"""docs/params.md: every parameter with its type, its range and its value, from the typed models and params.yaml."""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from earmark.params import PATH, Params, yaml
from earmark.params.training import Augmentation, Candidate, Choice, Optimizer, Span

HEAD = """# Parameters

Everything that changes a result is in `params.yaml`. The whole file is checked before a stage runs: an unknown key or
a bad value gives an error of one sentence. `make docs` generates this page.
"""
CANDIDATES = """## Candidates

The settings of one candidate, under `train.candidates.<name>`. Only `batch_size` and `optimizer` are required. A
missing setting has the value in the table.
"""
RANGES = """## Ranges of a search

`tune.ranges.<candidate>.<setting>` is a range or a list of values. If both ends are whole, so are all drawn numbers.
"""
_COLUMNS = "| parameter | type | expected | {value} | meaning |\n|---|---|---|---|---|"
_NAMES: dict[object, str] = {int: "whole number", float: "number", str: "text", bool: "true or false"}
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below", "multiple_of": "a multiple of"}
_KEY = re.compile(r"(?P<indent> *)(?P<key>[\w.]+):(?P<rest>.*)")
_SETTING = re.compile(r"(?P<key>[\w.]+): (?P<text>.*)")
_SECTIONS_OF_A_CANDIDATE: dict[str, type[BaseModel]] = {"optimizer": Optimizer, "augmentation": Augmentation}


def page(text: str) -> str:
    """The Markdown page for `text`, the content of params.yaml."""
    values, comments, settings = yaml.load(text), _comments(text), _settings(text)
    parts = [HEAD]
    top = [
        row for name, field in _fields(Params) if not _section(field) for row in _rows(name, field, values, comments)
    ]
    parts += [_table(top, "value")]
    for name, field in _fields(Params):
        if section := _section(field):
            rows = _section_rows(section, (name,), values, comments)
            parts += [f"## {name}\n", _table(rows, "value")]
    parts += [CANDIDATES, _table(_candidate_rows(settings), "if missing")]
    parts += [RANGES, _table([*_model_rows(Span, {}), *_model_rows(Choice, {})], "if missing")]
    return "\n".join(parts)


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        yield field.alias or name, field


def _section(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a section; a range is a value, not a section."""
    kind = field.annotation
    if isinstance(kind, type) and issubclass(kind, BaseModel) and set(kind.model_fields) != {"min", "max"}:
        return kind
    return None


def _section_rows(
    model: type[BaseModel], path: tuple[str, ...], values: Any, comments: Mapping[str, str]
) -> Iterator[str]:
    for name, field in _fields(model):
        inner = (*path, name)
        if section := _section(field):
            yield from _section_rows(section, inner, values, comments)
        else:
            yield from _rows(".".join(inner), field, values, comments)


def _rows(key: str, field: FieldInfo, values: Any, comments: Mapping[str, str]) -> Iterator[str]:
    value = values
    for part in key.split("."):
        value = value[part]
    yield _row(key, field, _shown_at(key, value), field.description or comments.get(key, ""))


def _candidate_rows(settings: Mapping[str, str]) -> Iterator[str]:
    for name, field in _fields(Candidate):
        if section := _SECTIONS_OF_A_CANDIDATE.get(name):
            yield from _model_rows(section, settings, f"{name}.")
        else:
            yield _model_row(name, field, settings)


def _model_rows(model: type[BaseModel], settings: Mapping[str, str], before: str = "") -> Iterator[str]:
    for name, field in _fields(model):
        yield _model_row(before + name, field, settings)


def _model_row(key: str, field: FieldInfo, settings: Mapping[str, str]) -> str:
    return _row(key, field, _default(field), field.description or settings.get(key, ""))


def _row(key: str, field: FieldInfo, value: str, meaning: str) -> str:
    kind, expected = _type_and_range(field.annotation, field.metadata)
    cells = (f"`{key}`", kind, expected, value, meaning)
    return "| " + " | ".join(cell.replace("|", "&#124;") for cell in cells) + " |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    return _shown(field.default.model_dump() if isinstance(field.default, BaseModel) else field.default)


def _shown_at(key: str, value: Any) -> str:
    if key == "tune.ranges":
        return "see params.yaml"
    return _shown(list(value) if key == "train.candidates" else value)


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_shown(part)}" for key, part in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value)) or "none"
    return f"`{value}`" if value != "" else "empty"


def _type_and_range(kind: Any, metadata: list[Any]) -> tuple[str, str]:
    """The type of a field in words, and the values that are expected."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _type_and_range(arguments[0], [*arguments[1:], *metadata])
    if origin is Literal:
        return "text", "one of " + ", ".join(f"`{word}`" for word in arguments)
    if origin in (Union, UnionType):
        members = [_type_and_range(member, []) for member in arguments if member is not NoneType]
        limits = [limit for member in arguments for limit in getattr(member, "__metadata__", ())]
        return " or ".join(name for name, _ in members), _range([*metadata, *limits])
    if origin is tuple:
        member, _ = _type_and_range(arguments[0], [])
        return f"list of {member}" if member in _NAMES.values() else "list", _range(metadata)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "range", f"`min` and `max`{_ends(kind)}"
    return _NAMES.get(kind, "mapping"), _range(metadata)


def _ends(kind: type[BaseModel]) -> str:
    expected = _range(kind.model_fields["min"].metadata)
    return f", each {expected}" if expected else ""


def _range(metadata: list[Any]) -> str:
    """The limits in a field's metadata, in words."""
    words = []
    for limit in (part for entry in metadata for part in getattr(entry, "metadata", None) or [entry]):
        words += [f"{word} {getattr(limit, key)}" for key, word in _BOUNDS.items() if hasattr(limit, key)]
        if least := getattr(limit, "min_length", None):
            words.append("not empty" if least == 1 else f"at least {least} entries")
        if pattern := getattr(limit, "pattern", None):
            words.append(f"matches `{pattern}`")
    return ", ".join(words)


def _comments(text: str) -> dict[str, str]:
    """The comment behind each key of a YAML text, by the key's path."""
    comments: dict[str, str] = {}
    path: list[tuple[int, str]] = []  # indentation and key of the sections that the line is in
    for line in text.splitlines():
        if not (match := _KEY.match(line)):
            continue
        indent = len(match["indent"])
        path = [*((at, key) for at, key in path if at < indent), (indent, match["key"])]
        _, mark, comment = match["rest"].partition(" #")
        if mark:
            comments[".".join(key for _, key in path)] = comment.strip()
    return comments


def _settings(text: str) -> dict[str, str]:
    """The meaning of each setting of a candidate: comment lines of three spaces and `name: text` in params.yaml."""
    settings: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        comment = re.fullmatch(r" *#( {3}(?P<more>  )?(?P<text>\S.*))", line)
        if comment is None:
            name = ""
        elif comment["more"] and name:
            settings[name] += f" {comment['text']}"
        elif match := _SETTING.fullmatch(comment["text"]):
            name = match["key"]
            settings[name] = match["text"]
    return settings


def _table(rows: Iterable[str], value: str) -> str:
    return "\n".join([_COLUMNS.format(value=value), *rows]) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page(Path(PATH).read_text(encoding="utf-8")))
