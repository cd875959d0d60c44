"""The gate's verdict, which comes after the page: it is put into its place there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from earmark.reporting.html import templates

if TYPE_CHECKING:
    from markupsafe import Markup

# Text in the page is escaped, so none of it is taken for these.
_START, _END = "<!-- the gate's verdict -->", "<!-- end of the gate's verdict -->"


def with_verdict(page: str, verdict, title: str) -> str:
    """Return the page with what the gate found; a verdict that is in it already is replaced.

    page: what `render` returned; verdict: an object with promoted (bool), alias, reason, judged_against (the champion's
    number, "" for none) and checks, each check with name, observed, allowed (texts) and passed (bool); title: the
    version as people name it. Raises ValueError for a page that has no place for a verdict.
    """
    before, start, rest = page.partition(_START)
    _, end, after = rest.partition(_END)
    if not start or not end:
        raise ValueError("the page has no place for a verdict; allowed is a page that render has made")
    return templates.encodable(f"{before}{section(verdict, title)}{after}")


def section(verdict, title: str = "") -> Markup:
    """Return what stands in the verdict's place, as HTML; for None, that nothing was registered yet."""
    from markupsafe import Markup

    template = templates.environment().get_template("sections/verdict.html.jinja")
    return Markup(f"{_START}\n{template.render(verdict=verdict, title=title)}{_END}")
