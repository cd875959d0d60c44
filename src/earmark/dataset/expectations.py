"""The one door to Great Expectations: rules in, findings and Data Docs out."""

import gc
import html
import os
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import pandas as pd


@dataclass(frozen=True)
class Rule:
    """What the values of a column must be. A missing value breaks no rule.

    Attributes:
        text: the rule as people read it.
        column: where the values are.
        least, most: bounds, both included; None where there is none.
        allowed, forbidden: the values that may be, and that may not be; empty where bounds say it.
        broken: what is said of a row that breaks the rule.
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
    """How a rule of a suite came out: the ids of the rows that break it, and the worst or outermost values seen, as
    text ("" for a rule without bounds)."""

    suite: str
    rule: Rule
    observed: str
    failed_ids: tuple[str, ...]

    @property
    def success(self) -> bool:
        """Whether no row breaks the rule."""
        return not self.failed_ids


class Checks:
    """Checks frames against rules, and keeps the Data Docs of every check."""

    def __init__(self) -> None:
        self._gx = _great_expectations()
        context = self._gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}
        self._source = context.data_sources.add_pandas("data set")
        self._sections: list[tuple[str, str]] = []

    def check(self, suite: str, frame: pd.DataFrame, rules: Sequence[Rule]) -> list[Finding]:
        """Checks `frame`, whose column `id` names its rows, against `rules`; one finding a rule, in that order."""
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
        failed = {each.expectation_config.meta["rule"]: _failed_ids(each) for each in result.results}
        self._sections.append((suite, _html(suite, result)))
        return [Finding(suite, rule, _observed(rule, frame[rule.column]), failed[rule.text]) for rule in rules]

    @property
    def docs(self) -> tuple[tuple[str, str], ...]:
        """Data Docs as the library renders them: (suite, HTML of its body), without styles and scripts."""
        return tuple(self._sections)


def _great_expectations() -> ModuleType:
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    # The import makes a million objects that all stay; looking for garbage among them is a quarter of its seconds.
    gc.disable()
    try:
        import great_expectations
    finally:
        gc.freeze()
        gc.enable()
    return great_expectations


def _expectation(rule: Rule) -> object:
    from great_expectations import expectations as gxe

    common = {"column": rule.column, "description": rule.text, "meta": {"rule": rule.text}}
    if rule.allowed:
        return gxe.ExpectColumnValuesToBeInSet(value_set=list(rule.allowed), **common)
    if rule.forbidden:
        return gxe.ExpectColumnValuesToNotBeInSet(value_set=list(rule.forbidden), **common)
    return gxe.ExpectColumnValuesToBeBetween(min_value=rule.least, max_value=rule.most, **common)


def _failed_ids(result) -> tuple[str, ...]:
    if "unexpected_index_list" not in result.result:
        rule = result.expectation_config.meta["rule"]
        raise RuntimeError(f"Great Expectations could not check {rule!r}: {result.exception_info}")
    return tuple(str(row["id"]) for row in result.result["unexpected_index_list"])


def _observed(rule: Rule, values: pd.Series) -> str:
    if rule.allowed or rule.forbidden or not values.notna().any():
        return ""
    bounds = [values.min()] * (rule.least is not None) + [values.max()] * (rule.most is not None)
    return " to ".join(f"{bound:.6g}" for bound in sorted(set(bounds)))


def _html(suite: str, result) -> str:
    """HTML of Data Docs, whose template expects to stand within a loop of the library's own page."""
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaSectionView

    for each in result.results:
        each.result = _escaped(each.result)
    view = DefaultJinjaSectionView()
    # The first section is about the library's run, not the data.
    sections = ValidationResultsPageRenderer().render(result).to_json_dict()["sections"][1:]
    loops = [{"index": f"{suite.replace(' ', '-')}-{number}"} for number in range(len(sections))]
    rendered = zip(sections, loops, strict=True)
    return "\n".join(view.render({"section": each, "loop": loop, "section_loop": loop}) for each, loop in rendered)


def _escaped(value: object) -> object:
    """`value` with all text in it as HTML: the library's tables show what they are given as it is, markup too."""
    if isinstance(value, str):
        return html.escape(value)
    if isinstance(value, dict):
        return {key: _escaped(each) for key, each in value.items()}
    return [_escaped(each) for each in value] if isinstance(value, list) else value
