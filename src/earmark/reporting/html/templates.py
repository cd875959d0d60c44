"""The page's templates, in which all text is escaped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from earmark.reporting import formats, outcomes

if TYPE_CHECKING:
    from jinja2 import Environment

FOLDER = Path(__file__).parent


def environment() -> Environment:
    """Return the environment that finds this folder's templates and has `formats` and `outcomes` as filters."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    whitespace = {"trim_blocks": True, "lstrip_blocks": True}
    made = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, **whitespace)
    for name in ("percent", "interval", "count", "size", "duration", "decimals"):
        made.filters[name] = getattr(formats, name)
    made.filters |= {"outcome": outcomes.of_rule, "broken_by": outcomes.broken_by}
    return made


def encodable(page: str) -> str:
    """Return the page without half surrogate pairs, as a file name can hold them: they have no UTF-8."""
    return page.encode("utf-8", "replace").decode("utf-8")
