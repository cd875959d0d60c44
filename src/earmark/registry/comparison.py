"""Compares the best candidate with the champion: scores both on the same test clips, in one process."""

import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from earmark.errors import ServiceUnavailableError, UserError
from earmark.evaluation import noise, test_set
from earmark.evaluation.test_set import TestSet
from earmark.params import Params
from earmark.paths import ACCEPTED, MODELS
from earmark.registry import gate
from earmark.reporting.gate_result import TrainedOnTest, Unreadable, Unscored, Verdict
from earmark.versioning.dvc import objects
from earmark.versioning.dvc_lock import hash_tag

if TYPE_CHECKING:
    from earmark.models.model_folder import Classifier
    from earmark.registry.versions import Registry


class ChampionComparison:
    """Compares models/`candidate` with a champion of `registry`; `metrics` is its entry in reports/metrics.json."""

    def __init__(self, params: Params, candidate: str, metrics: dict[str, Any], registry: "Registry"):
        clips = test_set.read(params)
        self._split = clips.reporting_split
        self._clips = clips.restricted_to(self._split)
        self._params, self._metrics, self._registry = params, metrics, registry
        self._folder = MODELS / candidate

    def verdict(self, champion: str) -> Verdict:
        """What the gate says of the candidate against version `champion`, "" for none.

        Raises:
            UserError: the candidate or the test clips cannot be read.
            ServiceUnavailableError: MLflow does not give the champion now.
        """
        accuracies = self._metrics[self._split].get("accuracy_in_noise", {})
        scored = self._champion(champion) if champion else None
        opponent: gate.Contender | Unscored | None
        if isinstance(scored, _Scored):
            contender, opponent = _contenders(self._candidate, scored)
        else:
            (contender,), opponent = _contenders(self._candidate), scored
        verdict = gate.verdict(
            self._params.register_.gate, contender, accuracies.get(noise.key(10)), opponent, self._params.seed
        )
        return replace(verdict, compared_with=champion)

    @cached_property
    def _candidate(self) -> "_Scored":
        return _scored(self._folder, self._clips)

    def _champion(self, number: str) -> "_Scored | Unscored":
        trained_on = self._clips_in_training_of(number)
        if trained_on:
            return TrainedOnTest(trained_on, len(self._clips.rows))
        with tempfile.TemporaryDirectory(prefix="earmark-") as folder:
            try:
                return _scored(self._registry.download(number, Path(folder)), self._clips)
            except ServiceUnavailableError as error:
                raise ServiceUnavailableError(
                    f"{error}; nothing was registered, because the candidate cannot be compared with the champion,"
                    f" version {number}; 'earmark registry promote' makes another version champion"
                ) from None
            except UserError as error:
                return Unreadable(str(error))

    def _clips_in_training_of(self, number: str) -> int:
        """How many test clips a version was trained on, under another split.

        0 where DVC no longer has the version's clips; that can only be in the champion's favour.
        """
        md5 = self._registry.find(number).tags.get(hash_tag(ACCEPTED), "")
        with suppress(UserError), tempfile.TemporaryDirectory(prefix="earmark-") as folder, objects() as dvc:
            accepted = Path(folder) / ACCEPTED.name
            if md5 and dvc.copied(md5, accepted):
                rows = pd.read_parquet(accepted, columns=["sha256", "split"])
                return int(self._clips.clips["sha256"].isin(rows.loc[rows["split"] == "training", "sha256"]).sum())
        return 0


@dataclass(frozen=True)
class _Scored:
    """A loaded model and its predictions for the test clips."""

    classifier: "Classifier"
    predictions: pd.DataFrame
    saved_bytes: int


def _scored(folder: Path, clips: TestSet) -> _Scored:
    from earmark.models import model_folder

    classifier = model_folder.load(folder)
    return _Scored(classifier, clips.predictions(classifier), (folder / model_folder.MODEL).stat().st_size)


def _contenders(*models: _Scored) -> list[gate.Contender]:
    from earmark.models import cost

    latencies = cost.latencies([model.classifier for model in models])
    return [
        gate.Contender(
            model.classifier.labels, model.predictions, gate.Cost(model.saved_bytes, latency.rounds_ms, latency.p99_ms)
        )
        for model, latency in zip(models, latencies, strict=True)
    ]
