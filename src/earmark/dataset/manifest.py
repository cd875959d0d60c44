"""Computes the manifest of a data set from its previous manifest and the recordings in its source and its inbox.

A source is mirrored: recordings that it no longer has are retired. An inbox only adds; a recording with an existing
name replaces the old one. Pure functions: frames in, frames out.
"""

from collections.abc import Callable, Sequence

import pandas as pd

from earmark.dataset import layout, splits

FACTS = ("format", "sample_rate_hz", "channels", "frames", "seconds", "peak", "rms", "clipped_fraction", "error")
PLACE = ("shard", "offset", "length")


def is_inbox(source: str) -> bool:
    """Whether a manifest row's `source` is an inbox: only the name of an inbox has a slash."""
    return "/" in source


def describe(listing: pd.DataFrame, noise_split: str) -> pd.DataFrame:
    """Derive `id`, `label`, `speaker`, `split`, `sha256` and `source` from `source`, `path` and `sha256`.

    `split` is `noise_split` for background noise and empty for a clip.
    """
    folder = listing["path"].str.split("/", n=1).str[0]
    noise = folder == layout.NOISE_FOLDER
    speakers = [splits.speaker_of(path) for path in listing["path"]]
    return pd.DataFrame(
        {
            "id": listing["path"],
            "label": folder,
            "speaker": pd.Series(speakers, index=listing.index, dtype="str").mask(noise, ""),
            "split": noise.map({True: noise_split, False: ""}),
            "sha256": listing["sha256"],
            "source": listing["source"],
        }
    )


def merge(previous: pd.DataFrame, source: pd.DataFrame | None, inbox: pd.DataFrame) -> pd.DataFrame:
    """The current recordings, one row per id.

    Of recordings with the same content and label one is kept: an earlier one if there is one, else the first.

    Args:
        previous: the rows that were current.
        source: the recordings of the source (`describe`); None if it was not read and its rows stay.
        inbox: all recordings that inboxes ever had (`describe`); they replace those of the source with the same id.
    """
    from_inbox = previous["source"].map(is_inbox).astype(bool)
    mirrored = previous[~from_inbox] if source is None else source
    together = pd.concat([mirrored[inbox.columns], inbox], ignore_index=True).drop_duplicates("id", keep="last")
    is_old = pd.MultiIndex.from_frame(together[["id", "sha256"]]).isin(
        pd.MultiIndex.from_frame(previous[["id", "sha256"]])
    )
    order = together.assign(is_new=~is_old).sort_values("is_new", kind="stable")
    return order.drop_duplicates(["label", "sha256"])[together.columns].reset_index(drop=True)


def build(
    members: pd.DataFrame, current: pd.DataFrame, read: pd.DataFrame, stored: pd.DataFrame, ingested_on: str
) -> pd.DataFrame:
    """The new manifest, retired rows included, sorted by shard and offset.

    Args:
        members: the previous manifest, retired rows included.
        current: the current recordings (`merge`).
        read: all recordings that were read now (`describe`); one that was stored but is not current gets a retired
            row.
        stored: the recordings that were stored now: `sha256`, place and facts.
        ingested_on: the date for new recordings.
    """
    columns = list(members.columns)
    unused = read[read["sha256"].isin(stored["sha256"]) & ~read["sha256"].isin(current["sha256"])]
    rows = pd.concat([current.assign(retired=False), unused.drop_duplicates("sha256").assign(retired=True)])
    places = pd.concat([members[["sha256", *PLACE, *FACTS]], stored], ignore_index=True).drop_duplicates("sha256")
    first_days = members.drop_duplicates(["id", "sha256"])[["id", "sha256", "ingested_on"]]
    rows = rows.merge(places, on="sha256", how="left", validate="many_to_one")
    rows = rows.merge(first_days, on=["id", "sha256"], how="left")
    rows["ingested_on"] = rows["ingested_on"].fillna(ingested_on)
    listed = pd.MultiIndex.from_frame(rows[["id", "sha256"]])
    retired = members[~pd.MultiIndex.from_frame(members[["id", "sha256"]]).isin(listed)].assign(retired=True)
    together = pd.concat([rows[columns], retired[columns]], ignore_index=True)
    in_use = together.loc[~together["retired"].astype(bool), "shard"].unique()
    return together[together["shard"].isin(in_use)].sort_values(["shard", "offset", "id", "sha256"], ignore_index=True)


def with_splits(rows: pd.DataFrame, split_of: Callable[[list[str]], Sequence[str]], noise_split: str) -> pd.DataFrame:
    """Return `rows` with the split of each clip; `split_of` maps ids to splits."""
    clips = rows["split"] != noise_split
    result = rows["split"].copy()
    result[clips] = split_of(rows.loc[clips, "id"].tolist())
    return rows.assign(split=result)
