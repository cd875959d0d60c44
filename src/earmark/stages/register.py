"""register: the best candidate becomes a version of the registered model, once, and champion where it earns it."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING

import pandas as pd

from earmark.dataset import shards
from earmark.errors import UserError
from earmark.evaluation import test_set
from earmark.io import hashing
from earmark.io.files import write_json, write_text
from earmark.params import Params
from earmark.paths import (
    ACCEPTED,
    CALIBRATION,
    CALIBRATION_OF_VALIDATION,
    HISTORIES,
    LABELS,
    METRICS,
    MODELS,
    NOISE,
    PREDICTIONS,
    REGISTERED,
    REPORT,
    SLICES,
    VALIDATION_RESULT,
    VERDICT,
)
from earmark.provenance import version_record
from earmark.registry import gate
from earmark.registry.comparison import ChampionComparison
from earmark.reporting.records import METRICS_OF_SPLIT
from earmark.versioning import dvc_lock
from earmark.versioning.dvc import objects

if TYPE_CHECKING:
    from earmark.provenance.store import Origin
    from earmark.registry.versions import Registry, Version

NAMED_CHANGES = 3
Judge = Callable[[str], gate.Verdict]
"""Judges the best candidate against the champion of this number, "" for none."""


def register(params: Params) -> str:
    """Makes sure that MLflow knows every candidate's run, registers the best; returns the table of candidates and what
    became of the best one."""
    from earmark.registry.versions import open_registry
    from earmark.reporting.leaderboard import leaderboard
    from earmark.reporting.terminal.leaderboard import table

    metrics = _metrics()
    best, clips = metrics["best"], shards.read_accepted(ACCEPTED)
    entry = metrics["candidates"][best]
    _require_models_of(metrics)
    _require_reports(metrics)
    registry = open_registry(params.register_.name)
    version = registry.with_content(entry["content_sha256"])
    # First gathered, then checked: what changes after that is not recorded.
    found = None if version else version_record.gather(best, params)
    _require_up_to_date(metrics)
    runs = {name: _logged(name, metrics, params, clips) for name in metrics["candidates"]}
    verdict_against = cache(ChampionComparison(params, best, entry, registry).verdict)
    if version:
        registry.delete_duplicates(version)
    else:
        # What cannot be judged is not registered.
        verdict_against(registry.aliases.reconcile().aliases["champion"])
        version = _added(best, entry, runs[best], registry, found)
    said = _admitted(registry, version, best, runs[best], verdict_against)
    return f"{table(leaderboard(metrics['candidates'], best))}\n\n{said}"


def _metrics() -> dict:
    try:
        found = json.loads(METRICS.read_text(encoding="utf-8"))
        found["candidates"][found["best"]]["content_sha256"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        raise UserError(f"{METRICS} is missing or damaged; run 'dvc repro' first") from None
    return found


def _require_models_of(metrics: dict) -> None:
    for name, entry in metrics["candidates"].items():
        folder = MODELS / name
        if not folder.is_dir() or hashing.content_sha256(folder) != entry["content_sha256"]:
            raise UserError(f"{METRICS} has figures of another model than {folder}; run 'dvc repro' first")


def _require_reports(metrics: dict) -> None:
    """Before MLflow is told anything: all that it will be told."""
    folders = (HISTORIES, CALIBRATION, CALIBRATION_OF_VALIDATION, NOISE)
    of_each = [folder / f"{name}.csv" for name in metrics["candidates"] for folder in folders]
    for path in (REPORT, PREDICTIONS, LABELS, SLICES, VALIDATION_RESULT, *of_each):
        if not path.is_file():
            raise UserError(f"{path} is missing; run 'dvc repro' first")


def _require_up_to_date(metrics: dict) -> None:
    """A version names the data, code and parameters that lie here as those that it was made from. Stages that ran
    without DVC cannot be told."""
    mine = {"ingest", "validate", "extract", "evaluate", *(f"train@{name}" for name in metrics["candidates"])}
    recorded = [stage for stage in dvc_lock.dvc_stages() if stage in mine]
    if not recorded:
        return
    with objects() as dvc:
        changes = dvc.changes(recorded)
    if changes:
        stage, changed = next(iter(changes.items()))
        more = f" and {len(changed) - NAMED_CHANGES} more" if len(changed) > NAMED_CHANGES else ""
        raise UserError(
            f"{', '.join(changed[:NAMED_CHANGES])}{more}: not what DVC's last run of {stage} read or wrote;"
            " run 'dvc repro' first"
        )


def _logged(name: str, metrics: dict, params: Params, clips: pd.DataFrame) -> str:
    from earmark.reporting.confusions import count_confusions
    from earmark.reporting.html.charts import confusion_chart
    from earmark.tracking import runs

    history = pd.read_csv(HISTORIES / f"{name}.csv")
    run_id = runs.find_or_log_run(name, MODELS / name, params, clips, history)
    predictions = pd.read_csv(PREDICTIONS, keep_default_na=False)
    mine = predictions[predictions["candidate"] == name]
    reported = mine[mine["split"] == test_set.reporting_split(mine)]
    # The best one's page comes with its verdict.
    pages = [] if name == metrics["best"] else [REPORT]
    runs.log_evaluation(
        run_id,
        _figures(metrics["candidates"][name]),
        {
            "": pages,
            "validation": [VALIDATION_RESULT],
            "evaluation": [LABELS, SLICES],
            "evaluation/calibration": [CALIBRATION / f"{name}.csv"],
            "evaluation/calibration/validation": [CALIBRATION_OF_VALIDATION / f"{name}.csv"],
            "evaluation/noise": [NOISE / f"{name}.csv"],
        },
        {"confusion.html": confusion_chart(count_confusions(reported)).figure},
    )
    return run_id


def _figures(entry: dict) -> dict[str, float]:
    """Every number of a candidate's entry in reports/metrics.json; those of a split as `evaluated_<split>_…`, since a
    training has `validation_accuracy` of each epoch already."""
    flat = {}
    for key, value in _flat(entry):
        split, _, _ = key.partition("_")
        flat[f"evaluated_{key}" if split in METRICS_OF_SPLIT.values() else key] = float(value)
    return flat


def _flat(entry: dict) -> Iterator[tuple[str, float]]:
    for key, value in entry.items():
        if isinstance(value, dict):
            yield from ((f"{key}_{inner}", figure) for inner, figure in _flat(value))
        elif not isinstance(value, str | list):  # the bounds of an interval stand beside it
            yield key, value


def _admitted(registry: "Registry", version: "Version", best: str, run_id: str, verdict_against: Judge) -> str:
    def judge(champion: str) -> gate.Verdict:
        verdict = verdict_against(champion)
        _publish(verdict, version, best, run_id)
        return verdict

    verdict = admit(registry, version, best, judge)
    if verdict is None:
        _publish_again(version, best, run_id)
        aliases = registry.find(version.number).aliases
        known = version.title + (f" ({', '.join(aliases)})" if aliases else ", to which no alias points")
        return f"nothing new to register: {best} is {known}"
    said = _publish(verdict, version, best, run_id)
    return said if verdict.promoted else f"{said}\nto make it champion all the same: {_by_hand(version)}"


def _publish(verdict: gate.Verdict, version: "Version", best: str, run_id: str) -> str:
    """Writes a verdict where people read it, and today's page with it, here and in MLflow, where that is not there yet;
    returns it as a sentence."""
    from earmark.reporting.html.verdict import with_verdict
    from earmark.tracking import runs

    said = f"registered {best} as {version.title}, {verdict.alias}: {verdict.reason}"
    content = {**_identity(version), "sentence": said, **asdict(verdict)}
    if _kept(version) != json.loads(json.dumps(content)):
        write_json(VERDICT, content)
    page = with_verdict(REPORT.read_text(encoding="utf-8"), verdict, version.title)
    if not REGISTERED.exists() or REGISTERED.read_text(encoding="utf-8") != page:
        runs.log_page(run_id, page, REPORT.name)
        write_text(REGISTERED, page)
    return said


def _publish_again(version: "Version", best: str, run_id: str) -> None:
    """A verdict that was made here, with today's page; one of another version goes."""
    kept = _kept(version)
    try:
        checks = tuple(gate.Check(**each) for each in kept["checks"])
        verdict = gate.Verdict(kept["promoted"], kept["reason"], checks, kept["judged_against"])
    except (KeyError, TypeError):
        for path in (VERDICT, REGISTERED):
            path.unlink(missing_ok=True)
        return
    _publish(verdict, version, best, run_id)


def _identity(version: "Version") -> dict[str, str]:
    return {"model": version.name, "version": version.number, "content_sha256": version.content}


def _kept(version: "Version") -> dict:
    """What was said here of this version; nothing of one in another registry, or under another name."""
    try:
        kept = json.loads(VERDICT.read_text(encoding="utf-8"))
        return kept if kept.items() >= _identity(version).items() else {}
    except (FileNotFoundError, ValueError, AttributeError, TypeError):
        return {}


def _added(best: str, entry: dict, run_id: str, registry: "Registry", found: "Origin") -> "Version":
    from earmark.provenance import store

    kept = store.save_files(run_id, found.files)
    return registry.add(run_id, entry["content_sha256"], {**_tags(best, entry), **found.tags, **kept})


def _by_hand(version: "Version") -> str:
    return f"earmark registry promote {version.number} --why '…'"


def admit(registry: "Registry", version: "Version", candidate: str, judge: Judge) -> gate.Verdict | None:
    """Judges a version and moves the alias that it earned to it; None where an alias was moved to it before.

    Where another version became champion, or challenger, in the meantime, the move is void, and the version is judged
    again.
    """
    judge = cache(judge)
    while True:
        record = registry.aliases.reconcile()
        if any(move.after == version.number for move in record.valid_moves):
            return None
        champion = record.aliases["champion"]
        verdict = judge(champion)
        # Before the move: a version that an alias points to has its verdict, whenever a process is killed.
        registry.describe(version, f"{candidate}; {_said(verdict)}", _verdict_tags(verdict))
        at = record.aliases[verdict.alias]
        if registry.aliases.move(verdict.alias, at, version.number, "register", verdict.reason, champion):
            return verdict


def _tags(candidate: str, entry: dict) -> dict[str, str]:
    figures = {
        f"{split}_accuracy": f"{entry[split]['accuracy']:.4f}" for split in ("validation", "test") if split in entry
    }
    return {"candidate": candidate, **figures, "saved_bytes": str(entry["saved_bytes"])}


def _verdict_tags(verdict: gate.Verdict) -> dict[str, str]:
    from earmark.registry.versions import VERDICT as VERDICT_TAG

    checks = {
        f"gate.{check.name.replace(' ', '_')}": f"{'passed' if check.passed else 'failed'}:"
        f" {check.observed} (needed: {check.allowed})"
        for check in verdict.checks
    }
    return {VERDICT_TAG: _said(verdict), "judged_against": verdict.judged_against or "none", **checks}


def _said(verdict: gate.Verdict) -> str:
    return f"{verdict.alias}: {verdict.reason}"
