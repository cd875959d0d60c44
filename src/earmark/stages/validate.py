"""validate: which clips are sound enough to learn from, and whether the data set as a whole is."""

import pandas as pd

from earmark.corpus import rules
from earmark.errors import UserError
from earmark.params import Params, Split, Validate
from earmark.stages.paths import ACCEPTED, QUARANTINE, RAW, VALIDATION
from earmark.stores import expectations, shards
from earmark.stores.expectations import Finding
from earmark.stores.files import whole_file, whole_folder, write_json


def validate(params: Params) -> str:
    """Writes accepted clips, quarantined ones with reasons, Data Docs and a JSON result; returns a sentence.

    UserError, with a table of what failed, where the data set as a whole is not sound; data/accepted.parquet then
    stays as it was.
    """
    manifest = shards.read_manifest(RAW)
    clips = rules.selected(manifest, params.dataset.labels, shards.NOISE)
    _require_labels(clips, params.dataset.labels)
    with whole_folder(VALIDATION) as reports:
        of_clips = expectations.check({"clips": (clips, clip_rules(params.validate_))}, reports / "clips")["clips"]
        reasons = _reasons(of_clips)
        accepted = rules.with_relations(clips[~clips["id"].isin(reasons.index)])
        whole = expectations.check(
            {
                "data set": (accepted, data_set_rules(params.validate_, params.split)),
                "splits": (rules.by_split(accepted, params.split.expected), split_rules(params.split)),
                "labels": (rules.by_label(clips, accepted), label_rules(params.validate_)),
                "quarantine": quarantine_rule(clips, reasons, params.validate_),
            },
            reports / "data_set",
        )
        findings = {"clips": of_clips, **whole}
        write_json(reports / "result.json", _result(findings, len(clips), len(reasons)))
    failed = [finding for name in whole for finding in whole[name] if not finding.success]
    if failed:
        raise UserError(f"{RAW} is refused, see {VALIDATION}/data_set/index.html:\n{_table(failed)}")
    _write(accepted[manifest.columns], clips[clips["id"].isin(reasons.index)], reasons)
    return f"{len(accepted)} clips accepted, {len(reasons)} quarantined"


def clip_rules(limits: Validate) -> list[tuple[str, object]]:
    """What a clip must be to be learnt from; each rule's text is the reason that quarantine gives."""
    from great_expectations import expectations as gxe

    seconds = f"between {limits.seconds.min:g} and {limits.seconds.max:g} seconds long"
    return [
        ("decodable", gxe.ExpectColumnValuesToBeInSet(column="error", value_set=[""])),
        (
            seconds,
            gxe.ExpectColumnValuesToBeBetween(
                column="seconds", min_value=limits.seconds.min, max_value=limits.seconds.max
            ),
        ),
        ("not silent", gxe.ExpectColumnValuesToBeBetween(column="peak", min_value=limits.min_peak)),
        (
            "not clipped",
            gxe.ExpectColumnValuesToBeBetween(column="clipped_fraction", max_value=limits.max_clipped_fraction),
        ),
    ]


def data_set_rules(limits: Validate, split: Split) -> list[tuple[str, object]]:
    """What the accepted clips must be together."""
    from great_expectations import expectations as gxe

    def one(column: str) -> object:
        return gxe.ExpectColumnValuesToBeBetween(column=column, min_value=1, max_value=1)

    speakers = [("each speaker in one split", one("splits_of_speaker"))] if split.method == "speaker" else []
    return [
        *speakers,
        ("each recording in one split", one("splits_of_recording")),
        ("each recording under one label", one("labels_of_recording")),
    ]


def split_rules(split: Split) -> list[tuple[str, object]]:
    """What each split that is expected to hold clips must have."""
    from great_expectations import expectations as gxe

    return [
        (
            f"clips in each split of split.method {split.method}",
            gxe.ExpectColumnValuesToBeBetween(column="clips", min_value=1),
        )
    ]


def label_rules(limits: Validate) -> list[tuple[str, object]]:
    """What each label must have, also one of which nothing was accepted."""
    from great_expectations import expectations as gxe

    least = limits.min_clips_per_label
    return [
        (f"at least {least} clips of each label", gxe.ExpectColumnValuesToBeBetween(column="clips", min_value=least)),
        ("training clips of each label", gxe.ExpectColumnValuesToBeBetween(column="training_clips", min_value=1)),
    ]


def quarantine_rule(clips: pd.DataFrame, reasons: pd.Series, limits: Validate) -> tuple[pd.DataFrame, list]:
    """One row that says how much is in quarantine, and the limit on it."""
    from great_expectations import expectations as gxe

    frame = pd.DataFrame(
        {"id": [f"{len(reasons)} of {len(clips)} clips"], "quarantined_fraction": [len(reasons) / len(clips)]}
    )
    rule = f"validate.max_quarantined_fraction {limits.max_quarantined_fraction:g}"
    return frame, [
        (
            rule,
            gxe.ExpectColumnValuesToBeBetween(column="quarantined_fraction", max_value=limits.max_quarantined_fraction),
        )
    ]


def _require_labels(clips: pd.DataFrame, labels: tuple[str, ...]) -> None:
    missing = sorted(set(labels) - set(clips["label"]))
    if missing:
        raise UserError(f"params.yaml: dataset.labels names {missing[0]!r}, of which {RAW} has no clip")


def _reasons(findings: list[Finding]) -> pd.Series:
    """Why each quarantined clip is there: clip id -> the first rule that it breaks."""
    reasons: dict[str, str] = {}
    for finding in findings:
        for clip in finding.failed_ids:
            reasons.setdefault(clip, f"not {finding.rule}".replace("not not ", ""))
    return pd.Series(reasons, dtype="str")


def _write(accepted: pd.DataFrame, quarantined: pd.DataFrame, reasons: pd.Series) -> None:
    with whole_file(ACCEPTED) as path:
        accepted.to_parquet(path, index=False)
    with whole_folder(QUARANTINE) as folder:
        columns = ["id", "label", "speaker", "sha256", "shard", "offset", "length", "error"]
        listed = quarantined[columns].assign(reason=quarantined["id"].map(reasons))
        listed.to_csv(folder / "quarantined.csv", index=False)
        for row, content in zip(listed.itertuples(), shards.read_recordings(RAW, listed), strict=True):
            (folder / f"{row.sha256}.wav").write_bytes(content)


def _result(findings: dict[str, list[Finding]], clips: int, quarantined: int) -> dict:
    rows = [
        {
            "suite": name,
            "rule": each.rule,
            "success": each.success,
            "observed": each.observed,
            "failed": len(each.failed_ids),
        }
        for name, found in findings.items()
        for each in found
    ]
    return {"clips": clips, "quarantined": quarantined, "rules": rows}


def _table(failed: list[Finding]) -> str:
    def examples(finding: Finding) -> str:
        shown = ", ".join(finding.failed_ids[:3])
        return (
            f"not so for {len(finding.failed_ids)}: {shown}{' …' * (len(finding.failed_ids) > 3)}"
            if shown
            else f"found {finding.observed}"
        )

    width = max(len(finding.rule) for finding in failed)
    return "\n".join(f"  {finding.rule:<{width}}  {examples(finding)}" for finding in failed)
