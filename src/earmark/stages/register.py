"""register: registers the best candidate as a version, and makes it champion or challenger as the gate decides."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from earmark.addresses import FOR_TRAININGS
from earmark.dataset import shards
from earmark.errors import UserError
from earmark.evaluation import test_set
from earmark.io import hashing
from earmark.io.files import write_json, write_text
from earmark.params import SPLITS, Params
from earmark.paths import (
    ACCEPTED,
    CALIBRATION,
    HISTORIES,
    LABELS,
    METRICS,
    MODELS,
    NOISE,
    PREDICTIONS,
    REGISTERED,
    REPORT,
    SLICES,
    VALIDATION_CALIBRATION,
    VALIDATION_RESULT,
    VERDICT,
    history_of,
)
from earmark.provenance import version_record
from earmark.registry.comparison import ChampionComparison
from earmark.reporting.outcomes import Outcome
from earmark.reporting.verdict import WrittenCheck, WrittenVerdict, in_words
from earmark.versioning import dvc_lock
from earmark.versioning.dvc import objects

if TYPE_CHECKING:
    from earmark.provenance.store import Provenance
    from earmark.registry.versions import Registry, Version

NAMED_CHANGES = 3
"""How many changed files an error names."""
VerdictAgainst = Callable[[str], WrittenVerdict]
"""Returns the verdict on the best candidate against the champion of this number, "" for none."""


def register(params: Params) -> str:
    """Logs every candidate's run to MLflow if it is not there yet, and registers the best candidate.

    Returns the leaderboard, and a sentence about the best candidate. A model is registered once.

    Raises:
        UserError: an output is missing, damaged or out of date, or the champion cannot be compared with now.
    """
    from earmark.registry.versions import open_registry
    from earmark.reporting.leaderboard import leaderboard
    from earmark.reporting.terminal.leaderboard import table

    metrics = _metrics()
    best, clips = metrics["best"], shards.read_accepted(ACCEPTED)
    entry = metrics["candidates"][best]
    _require_models(metrics)
    _require_reports(metrics)
    predictions = _read_table(PREDICTIONS, "candidate", "split", "label", "predicted")
    histories = {name: _read_table(history_of(name), "epoch") for name in metrics["candidates"]}
    registry = open_registry(params.register_.name)
    version = registry.with_content(entry["content_sha256"])
    # Gathered before the check, so that no later change of a file is recorded.
    provenance = None if version else version_record.gather(best, params)
    _require_up_to_date(metrics)
    runs = {name: _log_run(name, metrics, params, clips, histories[name], predictions) for name in histories}
    comparison = ChampionComparison(params, best, entry, registry)
    verdict_against = cache(lambda champion: in_words(comparison.verdict(champion)))
    if version:
        registry.delete_duplicates(version)
    else:
        # First, so that nothing is registered if the comparison fails.
        verdict_against(registry.aliases.reconcile().champion)
        version = _add(best, entry, runs[best], registry, cast("Provenance", provenance))
    about = _about(best, entry, params, clips, runs[best])
    sentence = _admit_and_publish(registry, version, best, about, runs[best], verdict_against)
    return f"{table(leaderboard(metrics['candidates'], best))}\n\n{sentence}"


def _metrics() -> dict[str, Any]:
    try:
        metrics: dict[str, Any] = json.loads(METRICS.read_text(encoding="utf-8"))
        metrics["candidates"][metrics["best"]]["content_sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{METRICS} is missing or damaged; run 'dvc repro' first") from None
    return metrics


def _require_models(metrics: dict[str, Any]) -> None:
    for name, entry in metrics["candidates"].items():
        folder = MODELS / name
        if not folder.is_dir() or hashing.content_sha256(folder) != entry["content_sha256"]:
            raise UserError(f"{METRICS} was made with another model than {folder} holds; run 'dvc repro' first")


def _require_reports(metrics: dict[str, Any]) -> None:
    """Checks all files to be logged before anything is logged."""
    folders = (HISTORIES, CALIBRATION, VALIDATION_CALIBRATION, NOISE)
    candidate_files = [folder / f"{name}.csv" for name in metrics["candidates"] for folder in folders]
    for path in (REPORT, PREDICTIONS, LABELS, SLICES, VALIDATION_RESULT, *candidate_files):
        if not path.is_file():
            raise UserError(f"{path} is missing; run 'dvc repro' first")


def _require_up_to_date(metrics: dict[str, Any]) -> None:
    """Checks that the data, code and parameters here are those that the model was made from, since the version records
    them. Stages that ran without DVC cannot be checked."""
    stages = {"ingest", "validate", "extract", "evaluate", *(f"train@{name}" for name in metrics["candidates"])}
    recorded = [stage for stage in dvc_lock.dvc_stages() if stage in stages]
    if not recorded:
        return
    with objects() as dvc:
        changes = dvc.changes(recorded)
    if changes:
        stage, changed = next(iter(changes.items()))
        more = f" and {len(changed) - NAMED_CHANGES} more" if len(changed) > NAMED_CHANGES else ""
        raise UserError(
            f"{', '.join(changed[:NAMED_CHANGES])}{more}: changed since DVC's last run of {stage};"
            " run 'dvc repro' first"
        )


def _log_run(
    name: str,
    metrics: dict[str, Any],
    params: Params,
    clips: pd.DataFrame,
    history: pd.DataFrame,
    predictions: pd.DataFrame,
) -> str:
    from earmark.reporting.confusions import count_confusions
    from earmark.reporting.html.charts import confusion_chart
    from earmark.tracking import runs

    run_id = runs.find_or_log_run(name, MODELS / name, params, clips, history)
    predictions = predictions[predictions["candidate"] == name]
    reported = predictions[predictions["split"] == test_set.reporting_split(predictions)]
    # The best candidate's report is logged with its verdict.
    pages = [] if name == metrics["best"] else [REPORT]
    runs.log_evaluation(
        run_id,
        _figures(metrics["candidates"][name]),
        {
            "": pages,
            "validation": [VALIDATION_RESULT],
            "evaluation": [LABELS, SLICES],
            "evaluation/calibration": [CALIBRATION / f"{name}.csv"],
            "evaluation/calibration/validation": [VALIDATION_CALIBRATION / f"{name}.csv"],
            "evaluation/noise": [NOISE / f"{name}.csv"],
        },
        {"confusion.html": confusion_chart(count_confusions(reported)).figure},
    )
    return run_id


def _read_table(path: Path, *columns: str) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, keep_default_na=False)
        table[list(columns)]
    except (OSError, ValueError, KeyError):
        raise UserError(f"{path} is missing or damaged; run 'dvc repro' first") from None
    return table


def _figures(entry: dict[str, Any]) -> dict[str, float]:
    """Every number of a candidate's entry in reports/metrics.json, by its name in MLflow.

    Figures of a split are named `evaluated_<split>_…`: the run already has a `validation_accuracy` of each epoch.
    """
    flat = {}
    for key, value in _flat(entry):
        split, _, _ = key.partition("_")
        flat[f"evaluated_{key}" if split in test_set.SPLITS else key] = float(value)
    return flat


def _flat(entry: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for key, value in entry.items():
        if isinstance(value, dict):
            yield from ((f"{key}_{inner}", figure) for inner, figure in _flat(value))
        elif not isinstance(value, str | list):  # both bounds of an interval have keys of their own
            yield key, value


def _admit_and_publish(
    registry: "Registry", version: "Version", best: str, about: str, run_id: str, verdict_against: VerdictAgainst
) -> str:
    def published_verdict(champion: str) -> WrittenVerdict:
        verdict = verdict_against(champion)
        _publish(verdict, version, best, run_id)
        return verdict

    verdict = admit(registry, version, about, published_verdict)
    if verdict is None:
        _publish_again(version, best, run_id)
        aliases = ", ".join(registry.find(version.number).aliases) or "without an alias"
        return f"nothing new to register: {best} is {version.title} ({aliases})"
    sentence = _publish(verdict, version, best, run_id)
    if verdict.promoted:
        return sentence
    return f"{sentence}\nto make it champion anyway: earmark registry promote {version.number} --why '…'"


def _publish(verdict: WrittenVerdict, version: "Version", best: str, run_id: str) -> str:
    """Writes the verdict to reports/, and the report with the verdict there and to MLflow; returns one sentence.

    What is there already is not written again.
    """
    from earmark.reporting.html.verdict import with_verdict
    from earmark.tracking import runs

    sentence = f"registered {best} as {version.title}, {verdict.summary}"
    content = {**_identity(version), "sentence": sentence, **asdict(verdict)}
    if _stored_verdict(version) != json.loads(json.dumps(content)):
        write_json(VERDICT, content)
    page = with_verdict(REPORT.read_text(encoding="utf-8"), verdict, version.title)
    if not REGISTERED.exists() or REGISTERED.read_text(encoding="utf-8") != page:
        runs.log_files(run_id, VERDICT.stem, {VERDICT.name: VERDICT.read_bytes()})
        runs.log_files(run_id, "", {REPORT.name: page.encode()})
        write_text(REGISTERED, page)
    return sentence


def _publish_again(version: "Version", best: str, run_id: str) -> None:
    """Publishes the verdict in reports/ with the current report; removes one that belongs to another version."""
    stored = _stored_verdict(version)
    try:
        checks = tuple(WrittenCheck(**check | {"outcome": Outcome(check["outcome"])}) for check in stored["checks"])
        verdict = WrittenVerdict(stored["promoted"], stored["reason"], checks, stored["compared_with"])
    except (KeyError, TypeError, ValueError):
        for path in (VERDICT, REGISTERED):
            path.unlink(missing_ok=True)
        return
    _publish(verdict, version, best, run_id)


def _identity(version: "Version") -> dict[str, str]:
    return {"model": version.name, "version": version.number, "content_sha256": version.content}


def _stored_verdict(version: "Version") -> dict[str, Any]:
    """The content of reports/verdict.json; empty if it belongs to another version, or is missing or damaged."""
    try:
        stored: dict[str, Any] = json.loads(VERDICT.read_text(encoding="utf-8"))
        return stored if stored.items() >= _identity(version).items() else {}
    except (FileNotFoundError, ValueError, AttributeError, TypeError):
        return {}


def _add(best: str, entry: dict[str, Any], run_id: str, registry: "Registry", provenance: "Provenance") -> "Version":
    from earmark.provenance import store

    provenance_tags = store.save(run_id, provenance)
    return registry.add(run_id, entry["content_sha256"], {**_tags(best, entry), **provenance_tags})


def admit(
    registry: "Registry", version: "Version", about: str, verdict_against: VerdictAgainst
) -> WrittenVerdict | None:
    """Compares a version with the champion, and moves the alias that it earned to it.

    The version's description is `about`, in Markdown, and the verdict. Returns None if an alias was moved to the
    version before. If another version becomes champion or challenger in the meantime, the move is void, and the version
    is compared again.
    """
    verdict_against = cache(verdict_against)
    while True:
        state = registry.aliases.reconcile()
        if any(move.after == version.number for move in state.valid_moves):
            return None
        verdict = verdict_against(state.champion)
        # Before the move, so that a version with an alias has its verdict even if this process is killed.
        registry.describe(version, f"{about}\n\n{verdict.summary}", verdict.summary)
        if registry.aliases.admit(verdict.alias, version.number, state, verdict.reason):
            return verdict


def _tags(candidate: str, entry: dict[str, Any]) -> dict[str, str]:
    figures = {
        f"{split}_accuracy": f"{entry[split]['accuracy']:.4f}" for split in ("validation", "test") if split in entry
    }
    return {"candidate": candidate, **figures, "saved_bytes": str(entry["saved_bytes"])}


def _about(candidate: str, entry: dict[str, Any], params: Params, clips: pd.DataFrame, run_id: str) -> str:
    """What people see first of a version in MLflow."""
    from earmark.reporting import markdown
    from earmark.tracking import runs

    sizes = clips[clips["split"] != shards.NOISE].groupby("split")["speaker"].agg(["size", "nunique"])
    splits: list[str] = [split for split in SPLITS if split in sizes.index]
    data = {split: (int(sizes.loc[split, "size"]), int(sizes.loc[split, "nunique"])) for split in splits}
    report = f"{runs.page_of(run_id)}/artifacts/{REPORT.name}{FOR_TRAININGS}"
    return markdown.about_version(candidate, entry, runs.short_name(params.dataset.source), data, report)
