"""Rules for sound data, as columns that an expectation can look at. Pure: frames in, frames out.

Every frame has a column `id`, which names what a row is about. A missing value breaks no rule.
"""

import numpy as np
import pandas as pd

FACTS = ("sample_rate_hz", "seconds", "peak", "rms", "clipped_fraction")
"""What is measured of a recording that can be decoded."""
UNMEASURED = "facts are missing"
SPEAKER_MARK = "_nohash_"
"""A file name with this mark states its speaker; another one counts as a speaker of its own, in each label anew."""

CHANCE = 1.36
"""The Kolmogorov-Smirnov statistic of two samples of one distribution is above this, times the root of the sum of their
reciprocal sizes, once in twenty times."""


def measured(clips: pd.DataFrame) -> pd.DataFrame:
    """`clips` as clip rules see them: facts are missing where nothing could be decoded, so that `error` alone tells; a
    clip without an error whose facts are missing gets one."""
    facts = list(FACTS)
    broken = clips["error"] != ""
    unmeasured = clips[facts].isna().any(axis=1) & ~broken
    seen = clips[["id", "label"]].assign(error=clips["error"].mask(unmeasured, UNMEASURED))
    return pd.concat([seen, clips[facts].astype("float64").mask(broken)], axis=1)


def selected(clips: pd.DataFrame, labels: tuple[str, ...]) -> pd.DataFrame:
    """The clips of `labels`; all of them where none is given."""
    return clips[clips["label"].isin(labels)] if labels else clips


def learnt(labels: pd.Series, unknown_labels: tuple[str, ...], unknown: str) -> pd.Series:
    """What each recording is learnt as: its own label, or `unknown` where that is one of `unknown_labels`."""
    return labels.mask(labels.isin(unknown_labels), unknown)


def quarantined_share(quarantined: int, clips: int) -> pd.DataFrame:
    """One row: `id`, and `quarantined_fraction` in [0, 1]."""
    share = quarantined / clips if clips else 0.0
    return pd.DataFrame({"id": [f"{quarantined} of {clips} clips"], "quarantined_fraction": [share]})


def by_speaker(accepted: pd.DataFrame) -> pd.DataFrame:
    """One row for each speaker that a file name states: `id` and `splits_of_speaker`, at least 1."""
    stated = accepted[accepted["id"].str.contains(SPEAKER_MARK, regex=False)]
    splits = stated.drop_duplicates(["speaker", "split"]).groupby("speaker").size()
    return pd.DataFrame({"id": splits.index.astype("str"), "splits_of_speaker": splits.to_numpy()})


def by_recording(accepted: pd.DataFrame) -> pd.DataFrame:
    """One row for each content: `id` (the clips that hold it), `splits_of_recording` and `labels_of_recording`, at
    least 1."""
    shared = accepted["sha256"].duplicated(keep=False)
    alone = accepted.loc[~shared, ["id"]].assign(splits_of_recording=1, labels_of_recording=1)
    several = accepted[shared].groupby("sha256")
    together = several.agg(
        id=("id", " = ".join), splits_of_recording=("split", "nunique"), labels_of_recording=("label", "nunique")
    )
    return pd.concat([alone, together], ignore_index=True)


def by_label(clips: pd.DataFrame, accepted: pd.DataFrame) -> pd.DataFrame:
    """One row for each label of `clips`: `id`, and `clips_of_label` and `training_clips_of_label` accepted of it."""
    labels = sorted(clips["label"].unique())
    training = accepted[accepted["split"] == "training"]
    counts = {"clips_of_label": accepted["label"], "training_clips_of_label": training["label"]}
    return pd.DataFrame({"id": labels} | {name: _count(each, labels) for name, each in counts.items()})


def by_split(accepted: pd.DataFrame, expected: tuple[str, ...]) -> pd.DataFrame:
    """One row for each of the splits `expected`: `id` and `clips_of_split` accepted of it."""
    return pd.DataFrame({"id": list(expected), "clips_of_split": _count(accepted["split"], expected)})


def by_earlier_label(previous: pd.DataFrame, accepted: pd.DataFrame) -> pd.DataFrame:
    """One row for each label of the last accepted version: `id` and `clips_of_earlier_label` accepted of it now."""
    labels = sorted(previous["label"].unique())
    return pd.DataFrame({"id": labels, "clips_of_earlier_label": _count(accepted["label"], labels)})


def drift(previous: pd.DataFrame, accepted: pd.DataFrame) -> pd.DataFrame:
    """One row for each `quantity`, of length, loudness and label mix: its `distance` from the last accepted version to
    this one, and `id`, which says what moved.

    Distances lie in [0, 1]. Of length and loudness, it is the Kolmogorov-Smirnov statistic less what chance alone
    seldom exceeds with so many speakers; of the label mix, the total variation. Neither frame may be empty.
    """
    before, now = _shares(previous), _shares(accepted)
    # Loudness is dBFS, of which the distance is that of the RMS itself: a logarithm keeps the order of all values.
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
            "id": [f"{quantity}: {moved}" for quantity, _, moved in rows],
            "quantity": [quantity for quantity, _, _ in rows],
            "distance": [round(float(distance), 6) for _, distance, _ in rows],
        }
    )


def _distance(before: pd.DataFrame, now: pd.DataFrame, column: str) -> float:
    from scipy.stats import ks_2samp

    # A speaker's recordings are alike: one more speaker among few moves a distribution far, and is no drift.
    chance = CHANCE * (1 / before["speaker"].nunique() + 1 / now["speaker"].nunique()) ** 0.5
    return max(0.0, ks_2samp(before[column], now[column], method="asymp").statistic - chance)


def _count(values: pd.Series, of: tuple[str, ...] | list[str]) -> np.ndarray:
    return values.value_counts().reindex(list(of), fill_value=0).to_numpy()


def _shares(clips: pd.DataFrame) -> pd.Series:
    return clips["label"].value_counts(normalize=True)


def _dbfs(rms: pd.Series) -> pd.Series:
    """Decibels of full scale, of silence -120."""
    return 20 * np.log10(np.maximum(rms, 1e-6))


def _medians(before: pd.Series, now: pd.Series, unit: str) -> str:
    return f"median {before.median():.3g} to {now.median():.3g} {unit}"


def _largest_move(before: pd.Series, now: pd.Series) -> str:
    label = now.sub(before, fill_value=0).abs().idxmax()
    return f"{label} from {before.get(label, 0):.1%} to {now.get(label, 0):.1%} of the clips"
