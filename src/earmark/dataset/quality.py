"""Computes the columns that the rules of `validate` check. Pure functions: frames in, frames out.

Every frame has a column `id`, which names the subject of a row. A missing value breaks no rule.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from earmark.reporting import formats

FACTS = ("sample_rate_hz", "seconds", "peak", "rms", "clipped_fraction")
"""The measurements of a recording that can be decoded."""
UNMEASURED = "facts are missing"
SPEAKER_MARK = "_nohash_"
"""A file name with this mark names its speaker; a file without it has a speaker of its own."""

KS_CRITICAL_VALUE = 1.36
"""Critical value of the two-sample Kolmogorov-Smirnov test at a level of 0.05, to be multiplied by sqrt(1/n + 1/m)."""


def for_clip_rules(clips: pd.DataFrame) -> pd.DataFrame:
    """`id`, `label`, `error` and the facts of `clips`, as the clip rules check them.

    A clip that cannot be decoded breaks the rule on `error` only: its facts are missing. A clip without an error but
    with missing facts gets the error UNMEASURED.
    """
    facts = list(FACTS)
    has_error = clips["error"] != ""
    unmeasured = clips[facts].isna().any(axis=1) & ~has_error
    errors = clips[["id", "label"]].assign(error=clips["error"].mask(unmeasured, UNMEASURED))
    return pd.concat([errors, clips[facts].astype("float64").mask(has_error)], axis=1)


def with_labels(clips: pd.DataFrame, labels: tuple[str, ...]) -> pd.DataFrame:
    """The clips of `labels`; all clips if `labels` is empty."""
    return clips[clips["label"].isin(labels)] if labels else clips


def training_labels(labels: pd.Series, unknown_labels: tuple[str, ...], unknown: str) -> pd.Series:
    """The label under which each recording is trained: its own, or `unknown` if it is one of `unknown_labels`."""
    return labels.mask(labels.isin(unknown_labels), unknown)


def quarantined_share(quarantined: int, clips: int) -> pd.DataFrame:
    """One row: `id` and `quarantined_fraction` in [0, 1]."""
    share = quarantined / clips if clips else 0.0
    return pd.DataFrame({"id": [f"{quarantined} of {clips} clips"], "quarantined_fraction": [share]})


def by_speaker(accepted: pd.DataFrame) -> pd.DataFrame:
    """One row per speaker that file names state: `id` and `splits_of_speaker`, at least 1."""
    named = accepted[accepted["id"].str.contains(SPEAKER_MARK, regex=False)]
    splits = named.drop_duplicates(["speaker", "split"]).groupby("speaker").size()
    return pd.DataFrame({"id": splits.index.astype("str"), "splits_of_speaker": splits.to_numpy()})


def by_recording(accepted: pd.DataFrame) -> pd.DataFrame:
    """One row per content: `id` (all clips with it), `splits_of_recording` and `labels_of_recording`, at least 1."""
    shared = accepted["sha256"].duplicated(keep=False)
    unique = accepted.loc[~shared, ["id"]].assign(splits_of_recording=1, labels_of_recording=1)
    groups = accepted[shared].groupby("sha256")
    duplicated = groups.agg(
        id=("id", " = ".join), splits_of_recording=("split", "nunique"), labels_of_recording=("label", "nunique")
    )
    return pd.concat([unique, duplicated], ignore_index=True)


def by_label(clips: pd.DataFrame, accepted: pd.DataFrame) -> pd.DataFrame:
    """One row per label of `clips`: `id`, and its accepted `clips_of_label` and `training_clips_of_label`."""
    labels = sorted(clips["label"].unique())
    training = accepted[accepted["split"] == "training"]
    counts = {"clips_of_label": accepted["label"], "training_clips_of_label": training["label"]}
    return pd.DataFrame({"id": labels} | {name: _count(values, labels) for name, values in counts.items()})


def by_split(accepted: pd.DataFrame, splits: tuple[str, ...]) -> pd.DataFrame:
    """One row for each of `splits`: `id` and its accepted `clips_of_split`."""
    return pd.DataFrame({"id": list(splits), "clips_of_split": _count(accepted["split"], splits)})


def by_earlier_label(previous: pd.DataFrame, accepted: pd.DataFrame) -> pd.DataFrame:
    """One row per label of the last accepted version: `id` and `clips_of_earlier_label` that are accepted now."""
    labels = sorted(previous["label"].unique())
    return pd.DataFrame({"id": labels, "clips_of_earlier_label": _count(accepted["label"], labels)})


def drift(previous: pd.DataFrame, accepted: pd.DataFrame) -> pd.DataFrame:
    """One row for each `quantity` (length, loudness, label mix): its `distance` in [0, 1] from the last accepted
    version, and `id`, which describes the change.

    For length and loudness the distance is the Kolmogorov-Smirnov statistic minus its critical value for the number
    of speakers; for the label mix it is the total variation. Neither frame may be empty.
    """
    before, now = _shares(previous), _shares(accepted)
    # The statistic uses RMS, the text dBFS: a logarithm does not change the order of values.
    rows = [
        ("length", _distance(previous, accepted, "seconds"), _medians(previous["seconds"], accepted["seconds"], "s")),
        (
            "loudness",
            _distance(previous, accepted, "rms"),
            _medians(_dbfs(previous["rms"]), _dbfs(accepted["rms"]), "dBFS"),
        ),
        ("label mix", now.sub(before, fill_value=0).abs().sum() / 2, _largest_move(before, now)),
    ]
    return pd.DataFrame(
        {
            "id": [f"{quantity}: {change}" for quantity, _, change in rows],
            "quantity": [quantity for quantity, _, _ in rows],
            "distance": [round(float(distance), 6) for _, distance, _ in rows],
        }
    )


def _distance(before: pd.DataFrame, now: pd.DataFrame, column: str) -> float:
    from scipy.stats import ks_2samp

    # Recordings of one speaker are alike, so speakers are counted: one more among few shifts a distribution by chance.
    chance = KS_CRITICAL_VALUE * (1 / before["speaker"].nunique() + 1 / now["speaker"].nunique()) ** 0.5
    return float(max(0.0, ks_2samp(before[column], now[column], method="asymp").statistic - chance))


def _count(values: pd.Series, names: tuple[str, ...] | list[str]) -> npt.NDArray[np.int64]:
    counts: npt.NDArray[np.int64] = values.value_counts().reindex(list(names), fill_value=0).to_numpy()
    return counts


def _shares(clips: pd.DataFrame) -> pd.Series:
    return clips["label"].value_counts(normalize=True)


def _dbfs(rms: pd.Series) -> pd.Series:
    """Level in decibels relative to full scale; -120 for silence."""
    return 20 * np.log10(np.maximum(rms, 1e-6))


def _medians(before: pd.Series, now: pd.Series, unit: str) -> str:
    return f"median {formats.significant(before.median(), 3)} to {formats.significant(now.median(), 3)} {unit}"


def _largest_move(before: pd.Series, now: pd.Series) -> str:
    label = now.sub(before, fill_value=0).abs().idxmax()
    return f"{label} from {formats.percent(before.get(label, 0))} to {formats.percent(now.get(label, 0))} of the clips"
