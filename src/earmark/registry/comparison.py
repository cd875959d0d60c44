"""The best candidate and the champion, scored on the same clips by the same process, as the gate sees them."""

import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from earmark.errors import ServiceUnavailableError, UserError
from earmark.evaluation import test_set
from earmark.params import Params
from earmark.paths import ACCEPTED, MODELS
from earmark.registry import gate
from earmark.reporting.records import METRICS_OF_SPLIT
from earmark.versioning.dvc import objects

if TYPE_CHECKING:
    from earmark.models.model_folder import Classifier
    from earmark.registry.versions import Registry


class Contest:
    """The newcomer models/`candidate`, whose entry in reports/metrics.json is `entry`, against whoever reigns."""

    def __init__(self, params: Params, candidate: str, entry: dict, registry: "Registry"):
        clips = test_set.judged_clips(params)
        self._split = test_set.reporting_split(clips)
        self._clips = clips[clips["split"] == self._split]
        self._params, self._entry, self._registry = params, entry, registry
        self._folder = MODELS / candidate

    def verdict(self, champion: str) -> gate.Verdict:
        """Judges the newcomer against version `champion`, "" for none; UserError where the newcomer or the clips
        cannot be read, ServiceUnavailableError where MLflow does not give the champion now."""
        scores = self._entry[METRICS_OF_SPLIT[self._split]]
        at_10_db = scores.get("accuracy_in_noise", {}).get("10_db")
        reigning = self._champion(champion) if champion else None
        if isinstance(reigning, _Scored):
            new, reigning = _contenders(self._newcomer, reigning)
        else:
            (new,) = _contenders(self._newcomer)
        found = gate.verdict(self._params.register_.gate, new, at_10_db, reigning, self._params.seed)
        return replace(found, judged_against=champion)

    @cached_property
    def _newcomer(self) -> "_Scored":
        return _scored(self._folder, self._clips)

    def _champion(self, number: str) -> "_Scored | gate.Unscored":
        heard = self._heard(number)
        if heard:
            return gate.Unscored(
                f"it was trained on {heard} of the {len(self._clips)} clips that it is to be judged by"
            )
        with tempfile.TemporaryDirectory(prefix="earmark-") as folder:
            try:
                return _scored(self._registry.download(number, Path(folder)), self._clips)
            except ServiceUnavailableError as error:
                raise ServiceUnavailableError(
                    f"{error}; nothing was registered, since the champion, version {number}, cannot be compared with"
                    " now; 'earmark registry promote' makes another one champion"
                ) from None
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


@dataclass(frozen=True)
class _Scored:
    """A loaded model, and what it said of the clips."""

    classifier: "Classifier"
    predictions: pd.DataFrame
    saved_bytes: int


def _scored(folder: Path, clips: pd.DataFrame) -> _Scored:
    from earmark.models import model_folder

    classifier = model_folder.load(folder)
    return _Scored(classifier, test_set.predict_clips(classifier, clips), (folder / model_folder.MODEL).stat().st_size)


def _contenders(*scored: _Scored) -> list[gate.Contender]:
    from earmark.models import cost

    latencies = cost.latencies([each.classifier for each in scored])
    return [
        gate.Contender(
            each.classifier.labels, each.predictions, gate.Cost(each.saved_bytes, latency.rounds_ms, latency.p99_ms)
        )
        for each, latency in zip(scored, latencies, strict=True)
    ]
