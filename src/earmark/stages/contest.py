"""The best candidate and the champion, scored on the same clips by the same process, as the gate sees them."""

import tempfile
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from earmark.errors import UserError
from earmark.params import Params
from earmark.report.records import METRICS_OF_SPLIT
from earmark.scoring import gate
from earmark.stages import judged
from earmark.stages.paths import ACCEPTED, MODELS
from earmark.stores.objects import objects

if TYPE_CHECKING:
    from earmark.stores.registry import Registry


class Contest:
    """The newcomer models/`candidate`, whose entry in reports/metrics.json is `entry`, against whoever reigns."""

    def __init__(self, params: Params, candidate: str, entry: dict, registry: "Registry"):
        clips = judged.judged_clips(params)
        self._split = judged.reporting_split(clips)
        self._clips = clips[clips["split"] == self._split]
        self._params, self._entry, self._registry = params, entry, registry
        self._folder = MODELS / candidate

    @cached_property
    def newcomer(self) -> gate.Contender:
        """The newcomer's scores; UserError where it, or the recordings, cannot be read."""
        return _contender(self._folder, self._clips)

    def verdict(self, champion: str) -> gate.Verdict:
        """Judges the newcomer against the version `champion`, "" for none."""
        scores = self._entry[METRICS_OF_SPLIT[self._split]]
        at_10_db = scores.get("accuracy_in_noise", {}).get("10_db")
        reigning = self._champion(champion) if champion else None
        return gate.verdict(self._params.register_.gate, self.newcomer, at_10_db, reigning, self._params.seed)

    def _champion(self, number: str) -> gate.Contender | gate.Unscored:
        heard = self._heard(number)
        if heard:
            return gate.Unscored(
                f"it was trained on {heard} of the {len(self._clips)} clips that it is to be judged by"
            )
        with tempfile.TemporaryDirectory(prefix="earmark-") as folder:
            try:
                return _contender(self._registry.download(number, Path(folder)), self._clips)
            except UserError as error:
                return gate.Unscored(str(error))

    def _heard(self, number: str) -> int:
        """How many of the clips a version was trained on, under another split; 0 where neither DVC's cache nor a remote
        tells any more, which can only be in the champion's favour."""
        md5 = self._registry.find(number).tags.get(f"dvc.{ACCEPTED.as_posix()}", "")
        with suppress(UserError), tempfile.TemporaryDirectory(prefix="earmark-") as folder, objects() as dvc:
            then = Path(folder) / ACCEPTED.name
            if md5 and dvc.copied(md5, then):
                rows = pd.read_parquet(then, columns=["sha256", "split"])
                return int(self._clips["sha256"].isin(rows.loc[rows["split"] == "training", "sha256"]).sum())
        return 0


def _contender(folder: Path, clips: pd.DataFrame) -> gate.Contender:
    from earmark.learning import cost, model_folder

    classifier = model_folder.load(folder)
    latency = cost.latency(classifier)
    spent = gate.Cost((folder / model_folder.MODEL).stat().st_size, latency.p50_ms, latency.p99_ms)
    return gate.Contender(classifier.labels, judged.predict_clips(classifier, clips), spent)
