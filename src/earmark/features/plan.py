"""Plans an extraction: which features of which raw shards, read from and written to which folders."""

import sys
from dataclasses import dataclass

import pandas as pd

from earmark.features import feature_shards
from earmark.features.extraction import Job
from earmark.features.front_ends import FrontEnd
from earmark.io.files import AnyPath


@dataclass(frozen=True)
class ExtractionPlan:
    """The features to extract, and where.

    Attributes:
        raw: folder or address of the raw shards.
        folder: folder or address of the features; each front end has a folder of its name in it.
        front_ends: the front ends, sorted by name.
        members: the manifest of `raw`, retired rows included.
    """

    raw: AnyPath
    folder: AnyPath
    front_ends: tuple[FrontEnd, ...]
    members: pd.DataFrame

    def folder_of(self, front_end: FrontEnd) -> AnyPath:
        """The folder of the features of one front end."""
        return self.folder / front_end.name

    def prepare_folder(self) -> None:
        """Set features of other settings aside, and remove those of raw shards that no longer exist.

        Prints what was moved.
        """
        names = {front_end.name for front_end in self.front_ends}
        for other in self.folder.iterdir() if self.folder.exists() else ():
            if other.is_dir() and other.name not in names:
                print(feature_shards.set_aside(other), end="")
        feature_shards.remove_orphans(self.folder, self.members["shard"].unique())
        for front_end in self.front_ends:
            print(feature_shards.prepare(self.folder_of(front_end), front_end.settings()), end="")

    def jobs(self) -> list[Job]:
        """One job for each raw shard that lacks features, in a prepared folder.

        Damaged features are computed again, with a warning on standard error.
        """
        rows_by_shard = dict(list(self.members.drop_duplicates(["shard", "offset"]).groupby("shard", sort=True)))
        counts = {shard: len(rows) for shard, rows in rows_by_shard.items()}
        needed: dict[str, list[FrontEnd]] = {}
        for front_end in self.front_ends:
            folder = self.folder_of(front_end)
            missing, damaged = feature_shards.missing(folder, counts, front_end)
            for shard in damaged:
                path = feature_shards.path_of(folder, shard)
                print(f"extract: warning: {path} is damaged; computing it again", file=sys.stderr)
            for shard in missing:
                needed.setdefault(shard, []).append(front_end)
        return [self._job(shard, rows_by_shard[shard], tuple(needed[shard])) for shard in sorted(needed)]

    def _job(self, shard: str, rows: pd.DataFrame, front_ends: tuple[FrontEnd, ...]) -> Job:
        ordered = rows.sort_values("offset")
        places = ordered["offset"].to_numpy(), ordered["length"].to_numpy()
        usable = (ordered["error"] == "").to_numpy()
        # Absolute paths, because a worker may run in another folder.
        return Job((self.raw / shard).absolute(), *places, usable, self.folder.absolute(), front_ends)
