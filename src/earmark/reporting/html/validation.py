"""The page of validation: its rules, the quarantine, and Great Expectations' Data Docs."""

from collections.abc import Mapping, Sequence
from typing import Any

from earmark.reporting.html import templates


def page(result: Mapping[str, Any], docs: Sequence[tuple[str, str]]) -> str:
    """An HTML page that loads nothing from elsewhere.

    result: the content of reports/validation/result.json; docs: (suite, HTML) of each suite's Data Docs.
    """
    from markupsafe import Markup

    template = templates.environment().get_template("validation.html.jinja")
    return templates.encodable(template.render(result=result, docs=[(suite, Markup(body)) for suite, body in docs]))  # noqa: S704  Great Expectations' HTML, whose values are escaped
