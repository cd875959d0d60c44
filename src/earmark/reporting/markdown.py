"""Markdown: the artifacts of a flow run, and what MLflow shows of a version."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from earmark.addresses import FOR_TRAININGS
from earmark.reporting import formats, outcomes
from earmark.reporting.leaderboard import HEADINGS, Cell, Leaderboard
from earmark.reporting.outcomes import Outcome


def run_links(server: str, run_id: str, report: str) -> str:
    """Links to a run at MLflow's server, and to the file `report` that is logged there."""
    run, file = quote(run_id), quote(report)
    page = f"{server}/#/runs/{run}{FOR_TRAININGS}"
    return f"[MLflow run]({page}) · [report]({server}/get-artifact?run_uuid={run}&path={file})\n"


def sentences(text: str) -> str:
    """One line of code for each line of `text`, which holds names of labels and commands."""
    return "\n\n".join(_code(line) for line in text.splitlines() if line) + "\n"


def leaderboard(content: Leaderboard) -> str:
    """The leaderboard as a table, the best candidate in bold."""
    rows = [f"| {' | '.join(HEADINGS)} |", f"|---|{'--:|' * (len(HEADINGS) - 1)}"]
    for row in content.rows:
        name = f"**{row.name}**" if row.is_best else row.name
        rows.append(f"| {name} | {' | '.join(map(_cell, row.cells))} |")
    return f"Figures are of the {content.split} split.\n\n" + "\n".join(rows) + "\n"


def _cell(cell: Cell) -> str:
    return f"{cell.main.text} ({cell.below.text})" if cell.below else cell.main.text


def validation(result: Mapping[str, Any]) -> str:
    """A table of the rules in reports/validation/result.json; what did not pass is bold."""
    rows = ["| suite | rule | outcome | observed | broken by |", "|---|---|---|--:|---|"]
    for entry in result["rules"]:
        more = [f"and {entry['failed'] - len(entry['failed_ids'])} more"] * (entry["failed"] > len(entry["failed_ids"]))
        broken_by = ", ".join([*map(_code, entry["failed_ids"]), *more])
        outcome = _bold_if(outcomes.of_rule(entry), Outcome.FAILED, Outcome.QUARANTINED)
        rows.append(f"| {entry['suite']} | {entry['rule']} | {outcome} | {entry['observed']} | {broken_by} |")
    return f"{result['sentence']}\n\n" + "\n".join(rows) + "\n"


def verdict(content: Mapping[str, Any]) -> str:
    """A table of the gate's checks in reports/verdict.json; failed ones are bold."""
    rows = ["| check | outcome | observed | expected |", "|---|---|---|---|"]
    for check in content["checks"]:
        outcome = _bold_if(check["outcome"], Outcome.FAILED)
        rows.append(f"| {check['name']} | {outcome} | {_code(check['observed'])} | {_code(check['expected'])} |")
    return f"{_code(content['sentence'])}\n\n" + "\n".join(rows) + "\n"


def about_version(
    candidate: str, metrics: Mapping[str, Any], source: str, data: Mapping[str, tuple[int, int]], report: str
) -> str:
    """Figures from a candidate's entry in reports/metrics.json, its data, and a link to the report, as paragraphs.

    `data` maps each split to its number of clips and of speakers. The first paragraph is plain text, since MLflow's
    list of versions shows Markdown as it is.
    """
    split = "test" if "test" in metrics else "validation"
    scores = metrics[split]
    counts = (
        f"{name}: {formats.count(clips)} clips of {speakers} speakers" for name, (clips, speakers) in data.items()
    )
    return (
        f"{formats.percent(scores['accuracy'])} accuracy on the {split} split"
        f" (95 % interval {formats.interval(*scores['accuracy_ci95'])}): {candidate},"
        f" {formats.size(metrics['saved_bytes'])}, {formats.milliseconds(metrics['latency_ms_p50'])} per clip\n\n"
        f"Data: {_code(source)}, {'; '.join(counts)}\n\n"
        f"[Report]({report})"
    )


def _bold_if(outcome: str, *bold: Outcome) -> str:
    return f"**{outcome}**" if outcome in bold else outcome


def _code(text: str) -> str:
    """`text` as code in a table's cell, whatever Markdown it holds."""
    plain = outcomes.printable(text).replace("`", "'").replace("|", "/")
    return f"`{plain}`"
