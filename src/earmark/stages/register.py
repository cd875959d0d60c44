"""register: the best candidate becomes a version of the registered model, once, and champion where it earns it."""

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cache, reduce
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from earmark.errors import UserError
from earmark.params import PATH, Params, yaml
from earmark.report.records import METRICS_OF_SPLIT
from earmark.scoring import gate
from earmark.stages import judged, origin
from earmark.stages.paths import (
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
    VALIDATION_RESULT,
    VERDICT,
)
from earmark.stores import provenance, shards
from earmark.stores.files import write_json, write_text

if TYPE_CHECKING:
    from earmark.stores.registry import Registry, Version

Judge = Callable[[str], gate.Verdict]
"""Judges the best candidate against the champion of this number, "" for none."""


def register(params: Params) -> str:
    """Makes sure that MLflow knows every candidate's run, registers the best; returns the table of candidates and what
    became of the best one."""
    from earmark.report.leaderboard import leaderboard
    from earmark.stores import tracking
    from earmark.stores.registry import open_registry

    metrics = _metrics()
    clips = shards.read_accepted(ACCEPTED)
    _require_models_of(metrics)
    _require_reports(metrics)
    _require_params_of(metrics)
    registry = open_registry(params.register_.name)
    with tracking.answering():
        runs = {name: _logged(name, metrics, params, clips) for name in metrics["candidates"]}
        return leaderboard(metrics) + "\n\n" + _registered(params, metrics, runs[metrics["best"]], registry)


def _metrics() -> dict:
    try:
        return json.loads(METRICS.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        raise UserError(f"{METRICS} is missing or damaged; run 'dvc repro' first") from None


def _require_models_of(metrics: dict) -> None:
    for name, entry in metrics["candidates"].items():
        folder = MODELS / name
        if not folder.is_dir() or provenance.content_sha256(folder) != entry["content_sha256"]:
            raise UserError(f"{METRICS} has figures of another model than {folder}; run 'dvc repro' first")


def _require_reports(metrics: dict) -> None:
    """Before MLflow is told anything: all that it will be told."""
    of_each = [folder / f"{name}.csv" for name in metrics["candidates"] for folder in (HISTORIES, CALIBRATION, NOISE)]
    for path in (REPORT, PREDICTIONS, LABELS, SLICES, VALIDATION_RESULT, *of_each):
        if not path.is_file():
            raise UserError(f"{path} is missing; run 'dvc repro' first")


def _require_params_of(metrics: dict) -> None:
    """A version is to be registered with the parameters that it was made with."""
    trained = {f"train@{name}" for name in metrics["candidates"]}
    now = yaml.loaded(PATH.read_text(encoding="utf-8"))
    for stage, ran in provenance.dvc_stages().items():
        if stage.startswith("train@") and stage not in trained:
            continue
        for key, then in ran.get("params", {}).get(PATH.name, {}).items():
            if (found := reduce(_at, key.split("."), now)) != then:
                raise UserError(
                    f"{PATH} has {key}: {found}, and {stage} ran with {then}; run 'dvc repro' first, or change it back"
                )


def _at(section: object, key: str) -> object:
    return section.get(key) if isinstance(section, dict) else None


def _logged(name: str, metrics: dict, params: Params, clips: pd.DataFrame) -> str:
    from earmark.report.charts import confusion_chart
    from earmark.report.confusions import count_confusions
    from earmark.stores import tracking

    history = pd.read_csv(HISTORIES / f"{name}.csv")
    run_id = tracking.run_of(name, MODELS / name, params, clips, history)
    predictions = pd.read_csv(PREDICTIONS, keep_default_na=False)
    mine = predictions[predictions["candidate"] == name]
    reported = mine[mine["split"] == judged.reporting_split(mine)]
    # The best one's page comes with its verdict.
    pages = [] if name == metrics["best"] else [REPORT]
    tracking.log_evaluation(
        run_id,
        _figures(metrics["candidates"][name]),
        {
            "": pages,
            "validation": [VALIDATION_RESULT],
            "evaluation": [LABELS, SLICES],
            "evaluation/calibration": [CALIBRATION / f"{name}.csv"],
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
        elif isinstance(value, list):
            yield from zip((f"{key}_low", f"{key}_high"), value, strict=True)
        elif not isinstance(value, str):
            yield key, value


def _registered(params: Params, metrics: dict, run_id: str, registry: "Registry") -> str:
    from earmark.report.verdict import with_verdict
    from earmark.stores import tracking

    best = metrics["best"]
    entry = metrics["candidates"][best]
    content = entry["content_sha256"]
    version = registry.with_content(content) or _added(params, best, entry, run_id, registry)
    verdict = admit(registry, version, best, _judge(params, best, entry, registry))
    if verdict is None:
        _remove_verdict_of_others(version.number)
        aliases = registry.find(version.number).aliases
        known = f"{registry.name} version {version.number}" + (f" ({', '.join(aliases)})" if aliases else "")
        return f"nothing new to register: {best} is {known}"
    page = with_verdict(REPORT.read_text(encoding="utf-8"), verdict)
    write_text(REGISTERED, page)
    tracking.log_page(run_id, page, REPORT.name)
    said = f"registered {best} as {registry.name} version {version.number}, {verdict.alias}: {verdict.reason}"
    write_json(VERDICT, {"version": version.number, "sentence": said, **asdict(verdict)})
    return said if verdict.promoted else f"{said}\nto make it champion all the same: {_by_hand(version)}"


def _remove_verdict_of_others(version: str) -> None:
    """The verdict here, and its page, where they are of another version than this."""
    try:
        same = json.loads(VERDICT.read_text(encoding="utf-8"))["version"] == version
    except (FileNotFoundError, ValueError, KeyError):
        same = False
    if not same:
        for path in (VERDICT, REGISTERED):
            path.unlink(missing_ok=True)


def _added(params: Params, best: str, entry: dict, run_id: str, registry: "Registry") -> "Version":
    from earmark.stores import origins

    found = origin.gather(best, params)
    origins.keep(run_id, found.files)
    return registry.add(run_id, entry["content_sha256"], {**_tags(best, entry), **found.tags})


def _by_hand(version: "Version") -> str:
    return f"earmark registry promote {version.number} --why '…'"


def admit(registry: "Registry", version: "Version", candidate: str, judge: Judge) -> gate.Verdict | None:
    """Judges a version and moves the alias that it earned to it; None where an alias was moved to it before.

    Where another version became champion, or challenger, in the meantime, the move is void, and the version is judged
    again.
    """
    judge = cache(judge)
    while True:
        record = registry.aliases.open()
        if any(move.after == version.number for move in record.counted):
            return None
        champion = record.aliases["champion"]
        verdict = judge(champion)
        # Before the move: a version that an alias points to has its verdict, whenever a process is killed.
        registry.describe(version, f"{candidate}; {_said(verdict)}", _verdict_tags(verdict))
        at = record.aliases[verdict.alias]
        if registry.aliases.move(verdict.alias, at, version.number, "register", verdict.reason, champion):
            return verdict


def _judge(params: Params, best: str, entry: dict, registry: "Registry") -> Judge:
    """Scores the champion on today's clips, and measures both in this process."""
    clips = judged.judged_clips(params)
    split = judged.reporting_split(clips)
    clips = clips[clips["split"] == split]
    at_10_db = entry[METRICS_OF_SPLIT[split]].get("accuracy_in_noise", {}).get("10_db")
    ours = cache(lambda: _contender(MODELS / best, clips))

    def judge(champion: str) -> gate.Verdict:
        reigning = _champion(registry, champion, clips) if champion else None
        return gate.verdict(params.register_.gate, ours(), at_10_db, reigning, params.seed)

    return judge


def _champion(registry: "Registry", number: str, clips: pd.DataFrame) -> gate.Contender | gate.Unscored:
    heard = _heard(registry, number, clips)
    if heard:
        return gate.Unscored(f"it was trained on {heard} of the {len(clips)} clips that it is to be judged by")
    with tempfile.TemporaryDirectory(prefix="earmark-") as folder:
        try:
            return _contender(registry.download(number, Path(folder)), clips)
        except UserError as error:
            return gate.Unscored(str(error))


def _heard(registry: "Registry", number: str, clips: pd.DataFrame) -> int:
    """How many of `clips` a version was trained on, under another split; 0 where DVC's cache does not tell any more."""
    path = provenance.cached(registry.find(number).tags.get(f"dvc.{ACCEPTED.as_posix()}", ""))
    if path is None:
        return 0
    then = pd.read_parquet(path, columns=["sha256", "split"])
    return int(clips["sha256"].isin(then.loc[then["split"] == "training", "sha256"]).sum())


def _contender(folder: Path, clips: pd.DataFrame) -> gate.Contender:
    from earmark.learning import cost, model_folder

    classifier = model_folder.load(folder)
    latency = cost.latency(classifier)
    spent = gate.Cost((folder / model_folder.MODEL).stat().st_size, latency.p50_ms, latency.p99_ms)
    return gate.Contender(classifier.labels, judged.predict_clips(classifier, clips), spent)


def _tags(candidate: str, entry: dict) -> dict[str, str]:
    figures = {
        f"{split}_accuracy": f"{entry[split]['accuracy']:.4f}" for split in ("validation", "test") if split in entry
    }
    return {"candidate": candidate, **figures, "saved_bytes": str(entry["saved_bytes"])}


def _verdict_tags(verdict: gate.Verdict) -> dict[str, str]:
    checks = {
        f"gate.{check.name.replace(' ', '_')}": f"{'passed' if check.passed else 'failed'}:"
        f" {check.observed} (needed: {check.allowed})"
        for check in verdict.checks
    }
    return {"verdict": _said(verdict), **checks}


def _said(verdict: gate.Verdict) -> str:
    return f"{verdict.alias}: {verdict.reason}"
