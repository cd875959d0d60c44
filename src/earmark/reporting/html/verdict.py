"""Puts the gate's verdict into the report; the verdict comes later, when the model is registered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from earmark.reporting.html import templates

if TYPE_CHECKING:
    from markupsafe import Markup

    from earmark.reporting.verdict import WrittenVerdict

# All other text in the page is escaped, so it cannot be mistaken for these.
_START, _END = "<!-- the gate's verdict -->", "<!-- end of the gate's verdict -->"


def with_verdict(page: str, verdict: WrittenVerdict, title: str) -> str:
    """Return the report with the verdict; one that is in it already is replaced.

    page: what `render` returned; title: the version's name for people.

    Raises:
        ValueError: the page has no place for a verdict.
    """
    before, start, rest = page.partition(_START)
    _, end, after = rest.partition(_END)
    if not start or not end:
        raise ValueError("the page has no place for a verdict; expected a page made by render")
    return templates.encodable(f"{before}{section(verdict, title)}{after}")


def section(verdict: WrittenVerdict | None, title: str = "") -> Markup:
    """Return the verdict as HTML; None says that the model is not registered yet."""
    from markupsafe import Markup

    template = templates.environment().get_template("sections/verdict.html.jinja")
    return Markup(f"{_START}\n{template.render(verdict=verdict, title=title)}{_END}")  # noqa: S704  a template's output, which escapes
