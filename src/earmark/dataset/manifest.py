"""Which recordings a data set holds, from what it held before and what its source and its inbox have now.

A source is mirrored: what it no longer has, the data set no longer has. An inbox only adds, and a recording that
arrives under the name of one that is there replaces it. Pure: frames in, frames out.
"""

from collections.abc import Callable

import pandas as pd

from earmark.dataset import layout, splits

FACTS = ("format", "sample_rate_hz", "channels", "frames", "seconds", "peak", "rms", "clipped_fraction", "error")
PLACE = ("shard", "offset", "length")


def is_inbox(source: str) -> bool:
    """Whether a manifest row's `source` is an inbox: its name has a slash, which no other source's has."""
    return "/" in source


def described(listing: pd.DataFrame, noise_split: str) -> pd.DataFrame:
    """`id`, `label`, `speaker`, `split`, `sha256` and `source` of a `listing` (`source`, `path`, `sha256`); `split` is
    that of noise, or empty for a clip."""
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


def merged(previous: pd.DataFrame, source: pd.DataFrame | None, inbox: pd.DataFrame) -> pd.DataFrame:
    """Current recordings, one row an id.

    Of recordings with one content under one label, one is kept: the one that was there before, else the first.

    Args:
        previous: the rows that were current.
        source: what the source has (`described`); None where it was not read, and its previous rows stay.
        inbox: all that inboxes ever brought (`described`); it replaces what the source has under the same id.
    """
    from_inbox = previous["source"].map(is_inbox).astype(bool)
    kept = previous[~from_inbox] if source is None else source
    together = pd.concat([kept[inbox.columns], inbox], ignore_index=True).drop_duplicates("id", keep="last")
    known = pd.MultiIndex.from_frame(together[["id", "sha256"]]).isin(
        pd.MultiIndex.from_frame(previous[["id", "sha256"]])
    )
    order = together.assign(is_new=~known).sort_values("is_new", kind="stable")
    return order.drop_duplicates(["label", "sha256"])[together.columns].reset_index(drop=True)


def manifest(
    members: pd.DataFrame, current: pd.DataFrame, met: pd.DataFrame, stored: pd.DataFrame, ingested_on: str
) -> pd.DataFrame:
    """The manifest, retired rows included, sorted by place.

    Args:
        members: the previous manifest, retired rows included.
        current: the recordings of `merged`.
        met: all that was found now (`described`): what was stored and is not current gets a retired row.
        stored: what was stored now: `sha256`, place and facts.
        ingested_on: date of the recordings that are new.
    """
    columns = list(members.columns)
    unused = met[met["sha256"].isin(stored["sha256"]) & ~met["sha256"].isin(current["sha256"])]
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


def with_splits(rows: pd.DataFrame, split_of: Callable[[list[str]], list[str]], noise_split: str) -> pd.DataFrame:
    """`rows` with the split of each clip, as `split_of` gives it for their ids."""
    clips = rows["split"] != noise_split
    result = rows["split"].copy()
    result[clips] = split_of(rows.loc[clips, "id"].tolist())
    return rows.assign(split=result)
