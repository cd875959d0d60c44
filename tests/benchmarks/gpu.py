"""`make bench-gpu`: training on one GPU under JAX, against the bare compiled step.

Run as `python -m tests.benchmarks.gpu [archive]` with KERAS_BACKEND=jax. It needs the packages jax, keras, numpy,
pydantic, rich, ruamel.yaml, scipy, soundfile and soxr, and for an archive isal; it needs neither TensorFlow nor DVC,
MLflow, Prefect and Great Expectations. Candidates are trained as they ship, on features that are held in memory. With
an archive of Speech Commands, it also measures how long a training takes to the accuracy of the tutorial. It ends with
0 where everything could be measured: a goal that is missed shows in the table.
"""

import argparse
import contextlib
import math
import time
from collections.abc import Mapping
from pathlib import Path

import jax
import keras

from earmark.features import front_ends
from earmark.features.front_ends import FrontEnd
from earmark.models import backend
from earmark.models.candidates import front_end_of, module_of
from earmark.params.training import Candidate
from earmark.provenance.environment import describe_cpu
from earmark.training import fitting
from earmark.training.batches import Examples
from tests.benchmarks import figures, held, turns
from tests.benchmarks.figures import Figure
from tests.benchmarks.held import Held
from tests.benchmarks.turns import EnoughError
from tests.support.shipped import ROOT
from tests.support.training import Unwatched, in_memory, with_all_candidates

CANDIDATES = ("seed_cnn", "tc_resnet", "stem_resnet", "bc_resnet")
BEST = "stem_resnet"
TUTORIAL_ACCURACY = 0.9323
CLIPS, BATCHES, TURNS = 8_192, 100, 9
"""Training clips; batches in a turn, of which an epoch must hold one more; turns of each kind."""
VALIDATION_CLIPS = 256
SEED = 1


class Target(Unwatched):
    """Ends a training with the first epoch that has a validation accuracy."""

    def __init__(self, accuracy: float):
        self.accuracy = accuracy

    def epoch(self, state) -> None:
        self.rows = state.rows
        if self.reached:
            raise EnoughError

    @property
    def best(self) -> float:
        """The highest validation accuracy of an epoch so far."""
        return max(row["validation_accuracy"] for row in self.rows)

    @property
    def reached(self) -> bool:
        """Whether the accuracy is reached."""
        return self.best >= self.accuracy


def shipped(*names: str) -> dict[str, Candidate]:
    """The settings of candidates as they ship."""
    train = with_all_candidates().train
    return {name: train.candidate(name) for name in names}


def front_end_for(candidate: str) -> FrontEnd:
    """The front end of a candidate with the settings of params.yaml."""
    return front_ends.front_end(front_end_of(candidate), with_all_candidates())


def recipe(candidate: str, settings: Candidate, data: Held) -> fitting.Recipe:
    """How a candidate is trained on `data`."""
    front_end = front_end_for(candidate)

    def build() -> keras.Model:
        return module_of(candidate).build((front_end.frames, front_end.bins), data.labels, **settings.network)

    return fitting.Recipe(build, front_end, data.noise, data.labels, settings, SEED)


def examples(data: Held) -> list[Examples]:
    """The clips of training and of validation."""
    return [in_memory(split.features, split.labels) for split in (data.training, data.validation)]


def loop_speed(candidate: str, settings: Candidate, clips: int, batches: int, turns_of_each: int) -> Figure:
    """The training loop of a candidate on generated clips."""
    print(f"{candidate}: speed", flush=True)
    data = held.generated(front_end_for(candidate).stored, clips, VALIDATION_CLIPS)
    settings = settings.model_copy(update={"epochs": turns.WARM_UP + turns_of_each})
    rates = turns.rates(recipe(candidate, settings, data), *examples(data), batches, turns_of_each)
    return turns.figure(candidate, rates.loop, rates.bare, rates.ratio)


def time_to_accuracy(candidate: str, settings: Candidate, archive: Path, accuracy: float) -> Figure:
    """Seconds until a candidate has an accuracy on the validation clips of an archive, compilation included."""
    print(f"{candidate}: time to {100 * accuracy:g} %", flush=True)
    data = held.recorded(archive, front_end_for(candidate).stored)
    watch = Target(accuracy)
    began = time.perf_counter()
    with contextlib.suppress(EnoughError):
        fitting.fit(recipe(candidate, settings, data), *examples(data), watch)
    seconds = time.perf_counter() - began if watch.reached else math.inf
    best, goal = 100 * watch.best, 100 * accuracy
    clips = f"{len(data.training.labels):,} clips"
    against = f"{best:.2f} % after {len(watch.rows)} of {settings.epochs} epochs of {clips}"
    return Figure(f"time of {candidate} to {goal:g} % on validation", seconds, "s", against, best, f">= {goal:g}")


def main(
    candidates: Mapping[str, Candidate],
    clips: int,
    batches: int,
    turns_of_each: int,
    archive: Path | None,
    reports: Path,
) -> None:
    """Measures, prints and writes all figures."""
    backend.start(SEED)
    results = [loop_speed(name, settings, clips, batches, turns_of_each) for name, settings in candidates.items()]
    if archive:
        results.append(time_to_accuracy(BEST, candidates[BEST], archive, TUTORIAL_ACCURACY))
    where = {"device": device(), "jax": jax.__version__}
    figures.show(f"training on {where['device']}, JAX {where['jax']}", results)
    figures.write("gpu", results, reports, **where)


def device() -> str:
    """The card that JAX trains on, or the processor."""
    first = jax.devices()[0]
    return describe_cpu() if first.platform == "cpu" else first.device_kind


def asked_archive() -> Path | None:
    """The archive that the command line names, if it names one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", nargs="?", type=Path)
    archive = parser.parse_args().archive
    if archive and not archive.is_file():
        parser.error(f"{archive} is no file: an archive of Speech Commands is needed")
    if keras.backend.backend() != "jax":
        parser.error(f"KERAS_BACKEND: {keras.backend.backend()} is not measured here; expected jax")
    return archive


if __name__ == "__main__":
    main(shipped(*CANDIDATES), CLIPS, BATCHES, TURNS, asked_archive(), ROOT / "reports")
