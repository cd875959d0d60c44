"""The one door to Great Expectations: suites in, findings and HTML Data Docs out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd


@dataclass(frozen=True)
class Finding:
    """The outcome of one expectation: the rows' ids that break it, or none for an expectation on the whole table."""

    rule: str
    success: bool
    observed: str
    failed_ids: tuple[str, ...]


def check(frames: Mapping[str, tuple[pd.DataFrame, list[tuple[str, object]]]], docs: Path) -> dict[str, list[Finding]]:
    """Checks each named frame (with a column `id`) against its (rule, expectation) pairs and writes Data Docs to
    `docs`.

    Returns, for each name, one finding a rule, in the order given.
    """
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    site = {"class_name": "SiteBuilder", "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"}}
    store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs.resolve())}
    for name in list(context.get_site_names()):
        context.delete_data_docs_site(name)
    context.add_data_docs_site("earmark", {**site, "store_backend": store})
    source = context.data_sources.add_pandas("manifest")
    checks, order = [], {}
    for name, (frame, rules) in frames.items():
        suite = gx.ExpectationSuite(name=name)
        for rule, expectation in rules:
            expectation.meta = {"rule": rule}
            suite.add_expectation(expectation)
        suite = context.suites.add(suite)
        batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe(name)
        definition = gx.ValidationDefinition(name=name, data=batch, suite=suite)
        checks.append((name, context.validation_definitions.add(definition), frame))
        order[name] = [rule for rule, _ in rules]
    findings = {name: _run(definition, frame, order[name]) for name, definition, frame in checks}
    context.build_data_docs()
    return findings


def _run(definition, frame: pd.DataFrame, order: list[str]) -> list[Finding]:
    result = definition.run(
        batch_parameters={"dataframe": frame},
        result_format={"result_format": "COMPLETE", "unexpected_index_column_names": ["id"]},
    )
    found = {each.expectation_config.meta["rule"]: _finding(each) for each in result.results}
    return [found[rule] for rule in order]


def _finding(result) -> Finding:
    if (result.exception_info or {}).get("exception_message"):
        raise RuntimeError(f"Great Expectations could not check: {result.exception_info['exception_message']}")
    rows = result.result.get("unexpected_index_list") or []
    observed = result.result.get("observed_value", f"{len(rows)} of {result.result.get('element_count', 0)} rows")
    return Finding(
        rule=result.expectation_config.meta["rule"],
        success=bool(result.success),
        observed=str(observed),
        failed_ids=tuple(str(row["id"]) for row in rows),
    )
