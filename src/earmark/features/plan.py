"""What an extraction does: which features of which raw shards, and between which folders. Resolved once."""

import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from earmark.features import feature_shards
from earmark.features.extraction import Job
from earmark.features.front_ends import FrontEnd


@dataclass(frozen=True)
class ExtractionPlan:
    """Attributes:
    raw: folder or address of the raw shards.
    folder: folder or address of the features; each front end has a folder of its name in it.
    front_ends: what the shards are to hold, sorted by name.
    members: the manifest of `raw`, retired rows included.
    """

    raw: Path
    folder: Path
    front_ends: tuple[FrontEnd, ...]
    members: pd.DataFrame

    def folder_of(self, front_end: FrontEnd) -> Path:
        """Where the features of one front end lie."""
        return self.folder / front_end.name

    def prepare_folder(self) -> None:
        """Sets features of other settings aside, removes those whose raw shards are gone, prints what it moved."""
        names = {front_end.name for front_end in self.front_ends}
        for other in self.folder.iterdir() if self.folder.exists() else ():
            if other.is_dir() and other.name not in names:
                print(feature_shards.set_aside(other), end="")
        feature_shards.remove_orphans(self.folder, self.members["shard"].unique())
        for front_end in self.front_ends:
            print(feature_shards.prepare(self.folder_of(front_end), front_end.settings()), end="")

    def jobs(self) -> list[Job]:
        """One job for each raw shard without its features, in a folder that is prepared. Damaged features are named on
        standard error and made again."""
        rows_by_shard = dict(list(self.members.drop_duplicates(["shard", "offset"]).groupby("shard", sort=True)))
        counts = {shard: len(rows) for shard, rows in rows_by_shard.items()}
        needed: dict[str, list[FrontEnd]] = {}
        for front_end in self.front_ends:
            folder = self.folder_of(front_end)
            missing, damaged = feature_shards.missing(folder, counts, front_end)
            for shard in damaged:
                path = feature_shards.path_of(folder, shard)
                print(f"extract: warning: {path} was damaged and is made again", file=sys.stderr)
            for shard in missing:
                needed.setdefault(shard, []).append(front_end)
        return [self._job(shard, rows_by_shard[shard], tuple(needed[shard])) for shard in sorted(needed)]

    def _job(self, shard: str, rows: pd.DataFrame, front_ends: tuple[FrontEnd, ...]) -> Job:
        ordered = rows.sort_values("offset")
        places = ordered["offset"].to_numpy(), ordered["length"].to_numpy()
        usable = (ordered["error"] == "").to_numpy()
        # Absolute, because a worker may run in another folder.
        return Job((self.raw / shard).absolute(), *places, usable, self.folder.absolute(), front_ends)
