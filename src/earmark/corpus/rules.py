"""Rules for sound data, as columns that an expectation can look at. Pure: frames in, frames out."""

import pandas as pd


def selected(manifest: pd.DataFrame, labels: tuple[str, ...], noise_split: str) -> pd.DataFrame:
    """The clips whose label is wanted: all but background noise, or those of `labels` where any is given."""
    clips = manifest[manifest["split"] != noise_split]
    return clips[clips["label"].isin(labels)] if labels else clips


def with_relations(clips: pd.DataFrame) -> pd.DataFrame:
    """`clips` with what each has to do with the others: `splits_of_speaker`, `splits_of_recording`,
    `labels_of_recording`, each a count of at least 1."""
    return clips.assign(
        splits_of_speaker=clips.groupby("speaker")["split"].transform("nunique"),
        splits_of_recording=clips.groupby("sha256")["split"].transform("nunique"),
        labels_of_recording=clips.groupby("sha256")["label"].transform("nunique"),
    )


def by_label(selected: pd.DataFrame, accepted: pd.DataFrame) -> pd.DataFrame:
    """One row for each label of `selected`: `id` (the label), and `clips` and `training_clips` accepted of it."""
    labels = sorted(selected["label"].unique())
    training = accepted[accepted["split"] == "training"]
    counts = {"clips": accepted["label"].value_counts(), "training_clips": training["label"].value_counts()}
    return pd.DataFrame(
        {"id": labels} | {name: each.reindex(labels, fill_value=0).to_numpy() for name, each in counts.items()}
    )


def by_split(accepted: pd.DataFrame, expected: tuple[str, ...]) -> pd.DataFrame:
    """One row for each of the splits `expected`: `id` (the split) and `clips` accepted of it."""
    counts = accepted["split"].value_counts().reindex(expected, fill_value=0)
    return pd.DataFrame({"id": list(expected), "clips": counts.to_numpy()})
