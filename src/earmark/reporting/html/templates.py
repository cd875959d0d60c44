"""The Jinja environment of the HTML pages; it escapes all text."""

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

    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("percent", "interval", "count", "size", "duration", "decimals"):
        environment.filters[name] = getattr(formats, name)
    environment.filters |= {"outcome": outcomes.of_rule, "broken_by": outcomes.broken_by}
    return environment


def encodable(page: str) -> str:
    """Return the page with lone surrogates replaced: file names can have them, UTF-8 cannot."""
    return page.encode("utf-8", "replace").decode("utf-8")
