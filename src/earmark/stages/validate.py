"""validate: which clips are sound enough to learn from, and whether the data set as a whole is."""

from collections.abc import Sequence

import pandas as pd

from earmark.dataset import quality, shards, state
from earmark.dataset.expectations import Checks, Finding, Rule
from earmark.errors import UserError
from earmark.io.files import whole_file, whole_folder, write_json, write_text
from earmark.params import UNKNOWN, Dataset, Params, Validate
from earmark.paths import ACCEPTED, QUARANTINE, QUARANTINED, RAW, VALIDATION, VALIDATION_RESULT
from earmark.reporting.html import validation
from earmark.reporting.terminal import rules

CLIPS, DATA_SET = "clips", "data set"
"""The suites: a clip that breaks a rule of the first goes to quarantine, a broken rule of the second stops the
pipeline."""
NOT_FINITE = "NaN or infinite samples"
"""What decoding says of such a recording."""
MAX_LISTED = 200
"""How much of the quarantine result.json lists; data/quarantine/quarantined.csv has it all."""
ASKED_LABELS = "labels"
"""Attribute of data/accepted.parquet: the labels that were asked for; empty: all."""
_CHANGE_COLUMNS = ("clips_of_earlier_label", "distance")
_LISTED_COLUMNS = ["id", "label", "speaker", "source", "sha256", "shard", "offset", "length"]


def validate(params: Params) -> str:
    """Writes accepted clips, quarantined ones with reasons, Data Docs and a JSON result; returns a sentence and a
    table.

    UserError, with a table of what failed, where the data set as a whole is not sound; data/accepted.parquet and
    data/quarantine then stay as they were.
    """
    manifest = shards.read_manifest(RAW)
    clips = manifest[manifest["split"] != shards.NOISE].reset_index(drop=True)
    _require_labels(clips, params.dataset)
    asked = _asked(params)
    checks = Checks()
    of_clips = checks.check(CLIPS, quality.measured(clips), clip_rules(params.validate_))
    quarantine, refused = _quarantine(clips, of_clips), _refused_files()
    accepted = quality.selected(clips[~clips["id"].isin(quarantine["id"])], asked).drop(columns="ingested_on")
    change = _change(manifest, accepted, asked)
    facts = [
        quality.quarantined_share(len(quarantine), len(clips)),
        quality.by_split(accepted, params.split.required),
        quality.by_label(quality.selected(clips, asked), accepted),
        quality.by_speaker(accepted),
        quality.by_recording(pd.concat([accepted, manifest[manifest["split"] == shards.NOISE]])),
        *change,
    ]
    whole = data_set_rules(params, compared=bool(change))
    of_data_set = checks.check(DATA_SET, pd.concat(facts, ignore_index=True), whole)
    result = _result(len(clips), len(accepted), quarantine, refused, [*of_clips, *of_data_set], change)
    with whole_folder(VALIDATION) as reports:
        write_json(reports / VALIDATION_RESULT.name, result)
        write_text(reports / "index.html", validation.page(result, checks.docs))
    _refuse_where_broken([*of_clips, *of_data_set], result)
    learnt = accepted.assign(
        recorded_label=accepted["label"],
        label=quality.learnt(accepted["label"], params.dataset.unknown_labels, UNKNOWN),
    )
    learnt.attrs = {ASKED_LABELS: list(asked)}
    _write(learnt, quarantine, refused)
    return f"{result['sentence']}\n{rules.table(result['rules'])}"


def clip_rules(limits: Validate) -> list[Rule]:
    """What a clip must be to be learnt from; quarantine gives the first rule that a clip breaks as the reason."""
    seconds = f"{limits.seconds.min:g} to {limits.seconds.max:g} seconds long"
    rate = f"{limits.sample_rate_hz.min:g} to {limits.sample_rate_hz.max:g} Hz"
    clipped = f"not clipped: at most {limits.max_clipped_fraction:g} of the samples"
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
        Rule(f"not silent: peak at least {limits.min_peak:g}", "peak", least=limits.min_peak, broken="silent"),
        Rule(clipped, "clipped_fraction", most=limits.max_clipped_fraction, broken="clipped"),
        *(labels if limits.labels else []),
    ]


def data_set_rules(params: Params, compared: bool) -> list[Rule]:
    """What the data set must be as a whole; `compared`: with a last accepted version."""
    limits, method = params.validate_, params.split.method
    share, least = limits.max_quarantined_fraction, limits.min_clips_per_label
    speakers = [Rule("each speaker in one split", "splits_of_speaker", most=1)]
    change = [
        Rule("no label gone since the last accepted version", "clips_of_earlier_label", least=1),
        Rule(f"drift from the last accepted version at most {limits.max_drift:g}", "distance", most=limits.max_drift),
    ]
    return [
        Rule(f"at most {share:g} of the clips in quarantine", "quarantined_fraction", most=share),
        Rule(f"clips in each split of split.method {method}", "clips_of_split", least=1),
        Rule(f"at least {least} clips of each label", "clips_of_label", least),
        Rule("training clips of each label", "training_clips_of_label", least=1),
        # Drawing at random divides clips, not speakers: that is what it is for.
        *([] if method == "random" else speakers),
        Rule("each recording in one split", "splits_of_recording", most=1),
        Rule("each recording under one label", "labels_of_recording", most=1),
        *(change if compared else []),
    ]


def _asked(params: Params) -> tuple[str, ...]:
    """The labels that are learnt, also as _unknown_; none: all."""
    chosen = params.dataset.labels
    return (*chosen, *params.dataset.unknown_labels) if chosen else params.validate_.labels


def _require_labels(clips: pd.DataFrame, dataset: Dataset) -> None:
    for key in ("labels", "unknown_labels"):
        missing = sorted(set(getattr(dataset, key)) - set(clips["label"]))
        if missing:
            raise UserError(f"params.yaml: dataset.{key} names {missing[0]!r}, of which {RAW} has no clip")


def _quarantine(clips: pd.DataFrame, findings: Sequence[Finding]) -> pd.DataFrame:
    """The clips that break a rule, with the first of their reasons, and as `error` what was found."""
    seen = quality.measured(clips).set_index("id")
    reasons: dict[str, str] = {}
    details: dict[str, str] = {}
    for finding in findings:
        column = finding.rule.column
        for clip in finding.failed_ids:
            if clip not in reasons:
                reasons[clip] = finding.rule.broken
                details[clip] = _detail(column, seen.at[clip, column])
    listed = clips[clips["id"].isin(reasons)][_LISTED_COLUMNS]
    return listed.assign(reason=listed["id"].map(reasons), error=listed["id"].map(details)).reset_index(drop=True)


def _detail(column: str, value: object) -> str:
    return f"{column} {value:g}" if isinstance(value, float) else str(value)


def _refused_files() -> pd.DataFrame:
    """Files that were not taken, as rows of the quarantine without bytes."""
    try:
        files = pd.read_csv(RAW / state.REFUSED, dtype="str", keep_default_na=False)
    except FileNotFoundError:
        return pd.DataFrame(columns=["id", "source", "reason", "error"])
    return pd.DataFrame(
        {"id": files["path"], "source": files["source"], "reason": "refused: " + files["reason"], "error": ""}
    )


def _change(manifest: pd.DataFrame, accepted: pd.DataFrame, asked: tuple[str, ...]) -> list[pd.DataFrame]:
    """What became of the last accepted version's labels, and the drift from it, as far as both were asked for the same
    labels; nothing where there is no such version, or today's data set has neither a source nor a recording of it."""
    if not ACCEPTED.exists():
        return []
    previous = shards.read_accepted(ACCEPTED)
    previous["label"] = previous.get("recorded_label", previous["label"])
    before = quality.selected(previous, asked)
    now = quality.selected(accepted, tuple(previous.attrs.get(ASKED_LABELS, ())))
    is_another = set(manifest["source"]).isdisjoint(previous["source"]) and set(manifest["sha256"]).isdisjoint(
        previous["sha256"]
    )
    if is_another or before.empty or now.empty:
        return []
    return [quality.by_earlier_label(before, accepted), quality.drift(before, now)]


def _result(
    clips: int,
    accepted: int,
    quarantine: pd.DataFrame,
    refused: pd.DataFrame,
    findings: Sequence[Finding],
    change: Sequence[pd.DataFrame],
) -> dict:
    """The content of result.json."""
    broken = sum(not each.success for each in findings if each.suite == DATA_SET)
    left_out = clips - accepted - len(quarantine)
    parts = [f"{accepted} clips accepted, {len(quarantine)} quarantined"]
    parts += [f"{left_out} of labels that are not learnt"] * bool(left_out)
    parts += [f"{len(refused)} files refused"] * bool(len(refused))
    sentence = f"{RAW} is refused: {broken} rules of the data set are broken" if broken else ", ".join(parts)
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
        "rules": [_entry(each) for each in findings],
        "quarantine": listed.to_dict("records"),
    }


def _entry(finding: Finding) -> dict:
    return {
        "suite": finding.suite,
        "rule": finding.rule.text,
        "success": finding.success,
        "observed": finding.observed,
        "failed": len(finding.failed_ids),
        "failed_ids": list(finding.failed_ids[:5]),
    }


def _refuse_where_broken(findings: Sequence[Finding], result: dict) -> None:
    if result["passed"]:
        return
    broken = [finding for finding in findings if not finding.success]
    hint = ""
    if any(finding.rule.column in _CHANGE_COLUMNS for finding in broken):
        hint = f"\nA change that is wanted is accepted without {ACCEPTED}: remove it and run again"
    table = rules.table([_entry(finding) for finding in broken])
    raise UserError(f"{result['sentence']}, see {VALIDATION}/index.html:\n{table}{hint}")


def _write(accepted: pd.DataFrame, quarantine: pd.DataFrame, refused: pd.DataFrame) -> None:
    with whole_file(ACCEPTED) as path:
        accepted.to_parquet(path, index=False)
    with whole_folder(QUARANTINE) as folder:
        listed = pd.concat([quarantine.astype({"offset": "Int64", "length": "Int64"}), refused])
        listed.to_csv(folder / QUARANTINED.name, index=False)
        for row, content in zip(quarantine.itertuples(), shards.read_recordings(RAW, quarantine), strict=True):
            (folder / f"{row.sha256}.wav").write_bytes(content)
