"""register: the best candidate becomes a version of the registered model, once, and champion where it earns it."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import pandas as pd

from earmark.errors import UserError
from earmark.params import Params
from earmark.scoring import gate
from earmark.stages.evaluate import predict_clips, reporting_split
from earmark.stages.paths import ACCEPTED, HISTORIES, METRICS, MODELS, PREDICTIONS, REPORT, VALIDATION_RESULT
from earmark.stores import provenance, shards


def register(params: Params) -> str:
    """Makes sure that MLflow knows every candidate's run, registers the best; returns the table of candidates and what
    became of the best one."""
    from earmark.report.leaderboard import leaderboard
    from earmark.stores import tracking

    metrics = _metrics()
    clips = shards.read_accepted(ACCEPTED)
    _require_models_of(metrics)
    runs = {name: _logged(name, entry, params, clips) for name, entry in metrics["candidates"].items()}
    registry = tracking.Registry(params.register_.name)
    return leaderboard(metrics) + "\n\n" + _registered(metrics, runs, registry, clips)


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


def _logged(name: str, entry: dict, params: Params, clips: pd.DataFrame) -> str:
    from earmark.report.charts import confusion_chart
    from earmark.report.confusions import count_confusions
    from earmark.stores import tracking

    history = pd.read_csv(HISTORIES / f"{name}.csv")
    run_id = tracking.run_of(name, MODELS / name, params, clips, history)
    predictions = pd.read_csv(PREDICTIONS, keep_default_na=False)
    mine = predictions[predictions["candidate"] == name]
    reported = mine[mine["split"] == reporting_split(mine)]
    tracking.log_evaluation(
        run_id,
        _figures(entry),
        {"": REPORT, "validation": VALIDATION_RESULT},
        {"confusion.html": confusion_chart(count_confusions(reported)).figure},
    )
    return run_id


def _figures(entry: dict) -> dict[str, float]:
    splits = {
        f"{split}_{key}": entry[split][key]
        for split in ("validation", "test")
        if split in entry
        for key in ("accuracy", "macro_f1")
    }
    return {f"evaluated_{key}": value for key, value in splits.items()} | {
        key: float(entry[key]) for key in ("parameters", "saved_bytes", "latency_ms_p50", "train_seconds")
    }


def _registered(metrics: dict, runs: dict[str, str], registry, clips: pd.DataFrame) -> str:
    best = metrics["best"]
    content = provenance.content_sha256(MODELS / best)
    known = registry.with_content(content)
    if known:
        return f"nothing new to register: {best} is {registry.name} version {known.number}{_aliases(known.aliases)}"
    champion = registry.champion()
    verdict = _verdict(best, champion, registry, clips) if champion else gate.FIRST
    version = registry.add(runs[best], best, content, verdict.alias, _tags(metrics, verdict))
    return f"registered {best} as {registry.name} version {version.number}, {verdict.alias}: {verdict.reason}"


def _aliases(aliases: tuple[str, ...]) -> str:
    return f" ({', '.join(aliases)})" if aliases else ""


def _verdict(best: str, champion, registry, clips: pd.DataFrame) -> gate.Verdict:
    """Scores the champion on today's clips and compares."""
    from earmark.learning import export

    judged = clips[clips["split"] == reporting_split(clips)]
    with tempfile.TemporaryDirectory(prefix="earmark-") as folder:
        reigning = registry.download(champion, Path(folder))
        same = export.read_settings(reigning)["labels"] == export.read_settings(MODELS / best)["labels"]
        theirs = predict_clips(reigning, judged)
    ours = predict_clips(MODELS / best, judged)
    found = gate.verdict(judged["label"].to_numpy(), theirs["predicted"].to_numpy(), ours["predicted"].to_numpy())
    return found if same else replace(found, reason=f"{found.reason}, whose labels are others")


def _tags(metrics: dict, verdict: gate.Verdict) -> dict[str, str]:
    best = metrics["candidates"][metrics["best"]]
    figures = {
        f"{split}_accuracy": f"{best[split]['accuracy']:.4f}" for split in ("validation", "test") if split in best
    }
    hashes = {key.replace(":", "."): value for key, value in provenance.dvc_hashes().items()}
    return {
        "candidate": metrics["best"],
        "verdict": f"{verdict.alias}: {verdict.reason}",
        **figures,
        **provenance.git_state(),
        **hashes,
    }
