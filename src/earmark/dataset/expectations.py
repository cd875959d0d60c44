"""The only module that uses Great Expectations: checks frames against rules and renders Data Docs."""

import gc
import html
import os
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

import pandas as pd

from earmark.reporting import formats

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult
    from great_expectations.expectations import Expectation


@dataclass(frozen=True)
class Rule:
    """What the values of a column must be; a missing value breaks no rule.

    Attributes:
        text: the rule as shown to people.
        column: the column.
        least, most: inclusive bounds; None for no bound.
        allowed, forbidden: values that may occur, or must not; empty if the rule has bounds.
        broken: the reason given for a row that breaks the rule.
    """

    text: str
    column: str
    least: float | None = None
    most: float | None = None
    allowed: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    broken: str = ""


@dataclass(frozen=True)
class Finding:
    """The result of one rule of a suite.

    Attributes:
        suite: name of the suite.
        rule: the rule.
        observed: the smallest or largest value, or both, as text; "" for a rule without bounds.
        failed_ids: ids of the rows that break the rule.
    """

    suite: str
    rule: Rule
    observed: str
    failed_ids: tuple[str, ...]

    @property
    def success(self) -> bool:
        """Whether no row breaks the rule."""
        return not self.failed_ids


class Checks:
    """Checks frames against rules and collects the Data Docs of every check."""

    def __init__(self) -> None:
        self._gx = _great_expectations()
        context = self._gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}
        self._source = context.data_sources.add_pandas("data set")
        self._sections: list[tuple[str, str]] = []

    def check(self, suite: str, frame: pd.DataFrame, rules: Sequence[Rule]) -> list[Finding]:
        """Check `frame`, whose column `id` names its rows; return one finding per rule, in the order of `rules`."""
        definition = self._source.add_dataframe_asset(suite).add_batch_definition_whole_dataframe(suite)
        expectations = self._gx.ExpectationSuite(name=suite)
        for rule in rules:
            expectations.add_expectation(_expectation(rule))
        result = definition.get_batch({"dataframe": frame}).validate(
            expectations,
            result_format={
                "result_format": "COMPLETE",
                "unexpected_index_column_names": ["id"],
                "return_unexpected_index_query": False,
            },
        )
        failed = {outcome.expectation_config.meta["rule"]: _failed_ids(outcome) for outcome in result.results}
        self._sections.append((suite, _html(suite, result)))
        return [Finding(suite, rule, _observed(rule, frame[rule.column]), failed[rule.text]) for rule in rules]

    @property
    def docs(self) -> tuple[tuple[str, str], ...]:
        """Data Docs as the library renders them: (suite, HTML of the body) without styles and scripts."""
        return tuple(self._sections)


def _great_expectations() -> ModuleType:
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    # The import creates a million objects that all stay; a quarter of its time would go to garbage collection.
    gc.disable()
    try:
        import great_expectations
    finally:
        gc.freeze()
        gc.enable()
    module: ModuleType = great_expectations
    return module


def _expectation(rule: Rule) -> "Expectation":
    from great_expectations import expectations as gxe

    common = {"column": rule.column, "description": rule.text, "meta": {"rule": rule.text}}
    if rule.allowed:
        return gxe.ExpectColumnValuesToBeInSet(value_set=list(rule.allowed), **common)
    if rule.forbidden:
        return gxe.ExpectColumnValuesToNotBeInSet(value_set=list(rule.forbidden), **common)
    return gxe.ExpectColumnValuesToBeBetween(min_value=rule.least, max_value=rule.most, **common)


def _failed_ids(outcome: "ExpectationValidationResult") -> tuple[str, ...]:
    if "unexpected_index_list" not in outcome.result:
        rule = outcome.expectation_config.meta["rule"]
        raise RuntimeError(f"Great Expectations could not check {rule!r}: {outcome.exception_info}")
    return tuple(str(row["id"]) for row in outcome.result["unexpected_index_list"])


def _observed(rule: Rule, values: pd.Series) -> str:
    if rule.allowed or rule.forbidden or not values.notna().any():
        return ""
    bounds = [values.min()] * (rule.least is not None) + [values.max()] * (rule.most is not None)
    return " to ".join(formats.significant(bound) for bound in sorted(set(bounds)))


def _html(suite: str, result: "ExpectationSuiteValidationResult") -> str:
    """HTML of Data Docs; the library's template expects the variables of a loop in its own page."""
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaSectionView

    for outcome in result.results:
        outcome.result = _escape(outcome.result)
    view = DefaultJinjaSectionView()
    # The first section is about the library's run, not the data.
    sections = ValidationResultsPageRenderer().render(result).to_json_dict()["sections"][1:]
    loops = [{"index": f"{suite.replace(' ', '-')}-{number}"} for number in range(len(sections))]
    rendered = zip(sections, loops, strict=True)
    return "\n".join(
        view.render({"section": section, "loop": loop, "section_loop": loop}) for section, loop in rendered
    )


def _escape(value: object) -> object:
    """Escape all text in `value` for HTML; the library's tables do not."""
    if isinstance(value, str):
        return html.escape(value)
    if isinstance(value, dict):
        return {key: _escape(item) for key, item in value.items()}
    return [_escape(item) for item in value] if isinstance(value, list) else value
