"""validate: checks every clip and the data set as a whole; quarantines clips that break a rule."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from earmark.dataset import quality, shards, state
from earmark.dataset.expectations import Checks, Finding, Rule
from earmark.errors import UserError
from earmark.io.files import whole_file, whole_folder, write_json, write_text
from earmark.params import UNKNOWN, Dataset, Params, Validate
from earmark.paths import ACCEPTED, QUARANTINE, QUARANTINED, RAW, VALIDATION, VALIDATION_PAGE, VALIDATION_RESULT
from earmark.reporting.formats import significant
from earmark.reporting.html import validation
from earmark.reporting.terminal import rules

CLIPS, DATA_SET = "clips", "data set"
"""The suites. A clip that breaks a rule of the first is quarantined; a broken rule of the second stops the pipeline."""
NOT_FINITE = "NaN or infinite samples"
"""The decoder's error for such a recording."""
MAX_LISTED = 200
"""How many clips result.json lists; data/quarantine/quarantined.csv lists all."""
CHOSEN_LABELS = "labels"
"""The attribute of data/accepted.parquet with the chosen labels; empty if all were."""
_CHANGE_COLUMNS = ("clips_of_earlier_label", "distance")
_LISTED_COLUMNS = ["id", "label", "speaker", "source", "sha256", "shard", "offset", "length"]


def validate(params: Params) -> str:
    """Writes accepted clips, quarantined clips with reasons, Data Docs and a JSON result.

    Returns a sentence and a table of the rules.

    Raises:
        UserError: the data set as a whole breaks a rule; the text has a table of those rules. data/accepted.parquet
            and data/quarantine do not change then.
    """
    manifest = shards.read_manifest(RAW)
    clips = manifest[manifest["split"] != shards.NOISE].reset_index(drop=True)
    _require_labels(clips, params.dataset)
    labels = _chosen_labels(params)
    checks = Checks()
    clip_findings = checks.check(CLIPS, quality.for_clip_rules(clips), clip_rules(params.validate_))
    quarantine, refused = _quarantine(clips, clip_findings), _refused_files()
    accepted = quality.with_labels(clips[~clips["id"].isin(quarantine["id"])], labels).drop(columns="ingested_on")
    change = _change(manifest, accepted, labels)
    facts = [
        quality.quarantined_share(len(quarantine), len(clips)),
        quality.by_split(accepted, params.split.required),
        quality.by_label(quality.with_labels(clips, labels), accepted),
        quality.by_speaker(accepted),
        quality.by_recording(pd.concat([accepted, manifest[manifest["split"] == shards.NOISE]])),
        *change,
    ]
    rules_of_set = data_set_rules(params, compared=bool(change))
    findings = [*clip_findings, *checks.check(DATA_SET, pd.concat(facts, ignore_index=True), rules_of_set)]
    result = _result(len(clips), len(accepted), quarantine, refused, findings, change)
    with whole_folder(VALIDATION) as reports:
        write_json(reports / VALIDATION_RESULT.name, result)
        write_text(reports / VALIDATION_PAGE.name, validation.page(result, checks.docs))
    _require_sound(findings, result, params.split.method)
    training_clips = accepted.assign(
        recorded_label=accepted["label"],
        label=quality.training_labels(accepted["label"], params.dataset.unknown_labels, UNKNOWN),
    )
    training_clips.attrs = {CHOSEN_LABELS: list(labels)}
    _write(training_clips, quarantine, refused)
    return f"{result['sentence']}\n{rules.table(result['rules'])}"


def clip_rules(limits: Validate) -> list[Rule]:
    """The rules for clips. The first rule that a clip breaks is its reason in quarantine."""
    seconds = f"{significant(limits.seconds.min)} to {significant(limits.seconds.max)} seconds long"
    rate = f"{significant(limits.sample_rate_hz.min)} to {significant(limits.sample_rate_hz.max)} Hz"
    clipped = f"not clipped: at most {significant(limits.max_clipped_fraction)} of the samples"
    not_silent = f"not silent: peak at least {significant(limits.min_peak)}"
    labels = [Rule("label allowed", "label", allowed=limits.labels, broken="label not allowed")]
    return [
        Rule("decodable", "error", allowed=("", NOT_FINITE), broken="not decodable"),
        Rule("no NaN or infinite samples", "error", forbidden=(NOT_FINITE,), broken=NOT_FINITE),
        Rule(seconds, "seconds", limits.seconds.min, limits.seconds.max, broken=f"not {seconds}"),
        Rule(
            f"sample rate {rate}",
            "sample_rate_hz",
            limits.sample_rate_hz.min,
            limits.sample_rate_hz.max,
            broken=f"sample rate not {rate}",
        ),
        Rule(not_silent, "peak", least=limits.min_peak, broken="silent"),
        Rule(clipped, "clipped_fraction", most=limits.max_clipped_fraction, broken="clipped"),
        *(labels if limits.labels else []),
    ]


def data_set_rules(params: Params, compared: bool) -> list[Rule]:
    """The rules for the data set as a whole; `compared` says whether there is an accepted version to compare with."""
    limits, method = params.validate_, params.split.method
    share, least = limits.max_quarantined_fraction, limits.min_clips_per_label
    speakers = [Rule("each speaker in one split", "splits_of_speaker", most=1)]
    drift = "drift from the last accepted version"
    change = [
        Rule("no label gone since the last accepted version", "clips_of_earlier_label", least=1),
        Rule(f"{drift} at most {significant(limits.max_drift)}", "distance", most=limits.max_drift),
    ]
    return [
        Rule(f"at most {significant(share)} of the clips in quarantine", "quarantined_fraction", most=share),
        Rule(f"clips in each split of split.method {method}", "clips_of_split", least=1),
        Rule(f"at least {least} clips of each label", "clips_of_label", least),
        Rule("training clips of each label", "training_clips_of_label", least=1),
        # A random split divides clips, not speakers.
        *([] if method == "random" else speakers),
        Rule("each recording in one split", "splits_of_recording", most=1),
        Rule("each recording under one label", "labels_of_recording", most=1),
        *(change if compared else []),
    ]


def _chosen_labels(params: Params) -> tuple[str, ...]:
    """The labels to train on, those trained on as _unknown_ among them; empty for all."""
    chosen = params.dataset.labels
    return (*chosen, *params.dataset.unknown_labels) if chosen else params.validate_.labels


def _require_labels(clips: pd.DataFrame, dataset: Dataset) -> None:
    for key in ("labels", "unknown_labels"):
        missing = sorted(set(getattr(dataset, key)) - set(clips["label"]))
        if missing:
            raise UserError(f"params.yaml: dataset.{key} names {missing[0]!r}, but {RAW} has no clip of it")


def _quarantine(clips: pd.DataFrame, findings: Sequence[Finding]) -> pd.DataFrame:
    """The clips that break a rule: `reason` is the first broken rule, `error` the observed value."""
    measured = quality.for_clip_rules(clips).set_index("id")
    reasons: dict[str, str] = {}
    details: dict[str, str] = {}
    for finding in findings:
        column = finding.rule.column
        for clip in finding.failed_ids:
            if clip not in reasons:
                reasons[clip] = finding.rule.broken
                details[clip] = _detail(column, measured.at[clip, column])
    listed = clips[clips["id"].isin(reasons)][_LISTED_COLUMNS]
    return listed.assign(reason=listed["id"].map(reasons), error=listed["id"].map(details)).reset_index(drop=True)


def _detail(column: str, value: object) -> str:
    return f"{column} {significant(value)}" if isinstance(value, float) else str(value)


def _refused_files() -> pd.DataFrame:
    """Files that ingest refused, as rows of the quarantine; there are no bytes of them."""
    try:
        files = pd.read_csv(RAW / state.REFUSED, dtype="str", keep_default_na=False)
    except FileNotFoundError:
        return pd.DataFrame(columns=["id", "source", "reason", "error"])
    return pd.DataFrame(
        {"id": files["path"], "source": files["source"], "reason": "refused: " + files["reason"], "error": ""}
    )


def _change(manifest: pd.DataFrame, accepted: pd.DataFrame, labels: tuple[str, ...]) -> list[pd.DataFrame]:
    """Compares with the last accepted version, on the labels chosen then and now: clips by earlier label, and drift.

    Empty if there is no such version, or if it shares neither a source nor a recording with today's data set.
    """
    if not ACCEPTED.exists():
        return []
    previous = shards.read_accepted(ACCEPTED)
    previous["label"] = previous.get("recorded_label", previous["label"])
    before = quality.with_labels(previous, labels)
    now = quality.with_labels(accepted, tuple(previous.attrs.get(CHOSEN_LABELS, ())))
    is_other_data_set = set(manifest["source"]).isdisjoint(previous["source"]) and set(manifest["sha256"]).isdisjoint(
        previous["sha256"]
    )
    if is_other_data_set or before.empty or now.empty:
        return []
    return [quality.by_earlier_label(before, accepted), quality.drift(before, now)]


def _result(
    clips: int,
    accepted: int,
    quarantine: pd.DataFrame,
    refused: pd.DataFrame,
    findings: Sequence[Finding],
    change: Sequence[pd.DataFrame],
) -> dict[str, Any]:
    """The content of result.json."""
    broken = sum(not finding.success for finding in findings if finding.suite == DATA_SET)
    left_out = clips - accepted - len(quarantine)
    parts = [f"{accepted} clips accepted, {len(quarantine)} quarantined"]
    parts += [f"{left_out} of labels that are not chosen"] * bool(left_out)
    parts += [f"{len(refused)} files refused"] * bool(len(refused))
    sentence = f"{RAW} is refused: it breaks {broken} of the rules for the data set" if broken else ", ".join(parts)
    listed = pd.concat([quarantine, refused])[["id", "reason", "error"]].head(MAX_LISTED)
    return {
        "passed": not broken,
        "sentence": sentence,
        "clips": clips,
        "accepted": accepted,
        "quarantined": len(quarantine),
        "refused_files": len(refused),
        "compared_with_last_accepted": bool(change),
        "drift": dict(zip(change[1]["quantity"], change[1]["distance"], strict=True)) if change else {},
        "rules": [_entry(finding) for finding in findings],
        "quarantine": listed.to_dict("records"),
    }


def _entry(finding: Finding) -> dict[str, Any]:
    return {
        "suite": finding.suite,
        "rule": finding.rule.text,
        "success": finding.success,
        "observed": finding.observed,
        "failed": len(finding.failed_ids),
        "failed_ids": list(finding.failed_ids[:5]),
    }


def _require_sound(findings: Sequence[Finding], result: dict[str, Any], method: str) -> None:
    if result["passed"]:
        return
    broken = [finding for finding in findings if not finding.success]
    columns = {finding.rule.column for finding in broken}
    hints = []
    if "clips_of_split" in columns and method != "random":
        hints.append(
            "With few speakers, set split.method to random in params.yaml;"
            " accuracy on new speakers will be lower than reported"
        )
    if not columns.isdisjoint(_CHANGE_COLUMNS):
        hints.append(f"To accept this change, remove {ACCEPTED} and run again")
    table = rules.table([_entry(finding) for finding in broken])
    raise UserError("\n".join([f"{result['sentence']}, see {VALIDATION_PAGE}:", table, *hints]))


def _write(accepted: pd.DataFrame, quarantine: pd.DataFrame, refused: pd.DataFrame) -> None:
    with whole_file(ACCEPTED) as path:
        accepted.to_parquet(path, index=False)
    with whole_folder(QUARANTINE) as folder:
        listed = pd.concat([quarantine.astype({"offset": "Int64", "length": "Int64"}), refused])
        listed.to_csv(folder / QUARANTINED.name, index=False)
        for row, content in zip(quarantine.itertuples(), shards.read_recordings(RAW, quarantine), strict=True):
            (folder / f"{row.sha256}.wav").write_bytes(content)
