"""Rules for sound data, as columns that an expectation can look at. Pure: frames in, frames out."""

import pandas as pd


def selected(manifest: pd.DataFrame, labels: tuple[str, ...], noise_split: str) -> pd.DataFrame:
    """The clips whose label is wanted: all but background noise, or those of `labels` where any is given."""
    clips = manifest[manifest["split"] != noise_split]
    return clips[clips["label"].isin(labels)] if labels else clips


def with_relations(clips: pd.DataFrame) -> pd.DataFrame:
    """`clips` with what each has to do with the others: `splits_of_speaker`, `splits_of_recording`,
    `labels_of_recording`
    and `clips_of_label`, each a count of at least 1."""
    return clips.assign(
        splits_of_speaker=clips.groupby("speaker")["split"].transform("nunique"),
        splits_of_recording=clips.groupby("sha256")["split"].transform("nunique"),
        labels_of_recording=clips.groupby("sha256")["label"].transform("nunique"),
        clips_of_label=clips.groupby("label")["id"].transform("size"),
    )
