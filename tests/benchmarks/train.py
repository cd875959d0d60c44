"""`make bench-train`: candidates against the tutorial's network, on real recordings.

Run as `python -m tests.benchmarks.train [archive]`. Each training is `earmark train` in a project that stays in
reports/bench-train, where finished trainings are kept, and unfinished ones go on from their checkpoints, as long as
code, settings and recordings are the same. Speeds are measured last, of one candidate after the other in several
rounds, since the load of a machine changes. It ends with 0 where everything could be measured: a goal that is missed
shows in the table.
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path

import pandas as pd
import yaml

from earmark.io.files import write_text
from earmark.io.hashing import content_sha256
from tests.benchmarks import figures, turns
from tests.benchmarks.figures import Figure
from tests.benchmarks.held import WORDS
from tests.benchmarks.processes import CommandError
from tests.conftest import BIN, EXCERPT, ROOT, candidates, change_params, checkout

SEEDS = (1, 2, 3)
RANDOM = {"method": "random", "fractions": {"training": 0.7, "validation": 0.1, "test": 0.2}}
SPEAKER = {"method": "speaker"}


@dataclass(frozen=True)
class Entry:
    """A candidate as it is measured: its name in the table, the settings that differ from params.yaml, its seeds."""

    name: str
    candidate: str
    changes: dict = field(default_factory=dict)
    seeds: tuple[int, ...] = SEEDS


SEED_CNN = Entry("seed_cnn", "seed_cnn", {"epochs": 10}, (1,))
BEST = Entry("stem_resnet", "stem_resnet")
SMALL = {"stem_channels": 8, "channels": [32, 32, 48], "kernel_size": 9, "dropout": 0.1}
FAST = (
    BEST,
    Entry("stem_resnet, small", "stem_resnet", {"epochs": 60, "network": SMALL}, (1,)),
    Entry("tc_resnet", "tc_resnet"),
)
HALF = Entry("stem_resnet, mixed_bfloat16", "stem_resnet", {"precision": "mixed_bfloat16"}, (1,))
NOISE_EPOCHS = 40
SLOW = Entry("bc_resnet", "bc_resnet", {"epochs": 30}, (1,))
ROUNDS = 3
"""How often the speed of each candidate is measured."""


@dataclass(frozen=True)
class Trained:
    """One training: its epochs and its scores on the test split."""

    history: pd.DataFrame
    scores: dict

    def epochs_to(self, validation_accuracy: float) -> float:
        """The first epoch with this validation accuracy; infinite where none has."""
        reached = self.history["validation_accuracy"] >= validation_accuracy
        return float(self.history["epoch"][reached].min()) if reached.any() else float("inf")


@dataclass(frozen=True)
class Speed:
    """Medians over all rounds: rates of the training loop and of the bare step in clips/s, their ratio, latency."""

    loop: float
    bare: float
    ratio: float
    latency_ms: float


class Bench:
    """Projects, one for each split, and the trainings in them that are done."""

    def __init__(self, folder: Path, archive: Path):
        self.folder, self.archive = folder, archive
        code = [content_sha256(ROOT / folder, "*.py") for folder in ("src/earmark", "tests/benchmarks")]
        shipped = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        others = {key: value for key, value in shipped.items() if key not in ("train", "tune")}
        self.key = _digest([code, others, str(archive), archive.stat().st_size])

    def project(self, name: str, split: dict) -> Path:
        """A copy of this tree, with features of every candidate."""
        project = self.folder / f"{name}-{self.key}"
        if (project / "ready").exists():
            return project
        for older in self.folder.glob(f"{name}-*"):
            shutil.rmtree(older)
        project.mkdir(parents=True)
        names = sorted({entry.candidate for entry in (SEED_CNN, *FAST, SLOW)})
        changes = {"dataset": {"source": str(self.archive), "labels": list(WORDS)}, "split": split}
        checkout(project, changes | {"train": {"candidates": candidates(*names)}})
        for stage in ("ingest", "validate", "extract"):
            self.call(project, BIN / "earmark", stage)
        (project / "ready").touch()
        return project

    def trained(self, entry: Entry, seed: int, project: Path) -> Trained:
        """The training of `entry` with `seed`, from the project's results or now."""
        settings, result = _settings(entry), self.result(entry, seed, project)
        if not (result / "scores.json").exists():
            print(f"{project.name.split('-')[0]} split: {entry.name}, seed {seed}", flush=True)
            change_params(project, {"seed": seed, "train": {"candidates": {entry.candidate: settings}}})
            self.call(project, BIN / "earmark", "train", entry.candidate, echo=True)
            model = f"models/{entry.candidate}"
            output = self.call(project, sys.executable, "-m", "tests.benchmarks.scoring", model, "test")
            result.mkdir(parents=True, exist_ok=True)
            shutil.copy2(project / f"reports/training/{entry.candidate}.csv", result / "history.csv")
            shutil.copytree(project / model, result / "model", dirs_exist_ok=True)
            write_text(result / "scores.json", output.splitlines()[-1])
        return Trained(pd.read_csv(result / "history.csv"), json.loads((result / "scores.json").read_text()))

    def result(self, entry: Entry, seed: int, project: Path) -> Path:
        """The folder of what a training came to."""
        return project / "results" / f"{entry.candidate}-{_digest([_settings(entry), seed])}"

    def speed(self, entry: Entry, project: Path, number: int) -> dict:
        """What `tests.benchmarks.speed` prints for `entry` in one round."""
        model = self.result(entry, 1, project) / "model"
        return self.kept(project, entry, "speed", entry.candidate, str(model), number=number)

    def kept(self, project: Path, entry: Entry, module: str, *arguments: str, number: int = 1) -> dict:
        """What `python -m tests.benchmarks.<module>`, run in the project with the settings of `entry`, prints as JSON.

        `number` tells measurements of the same from each other.
        """
        result = project / "results" / f"{module}-{_digest([arguments, _settings(entry), number])}.json"
        if not result.exists():
            print(f"{module} of {entry.name}: {number}", flush=True)
            change_params(project, {"seed": 1, "train": {"candidates": {entry.candidate: _settings(entry)}}})
            output = self.call(project, sys.executable, "-m", f"tests.benchmarks.{module}", *arguments)
            write_text(result, output.splitlines()[-1])
        return json.loads(result.read_text())

    def call(self, project: Path, *command: str | Path, echo: bool = False) -> str:
        """What a command in the project says."""
        quiet = dict.fromkeys(("DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY", "DVC_NO_ANALYTICS"), "true")
        environment = os.environ | quiet | {"PYTHONPATH": str(project / "src"), "TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.Popen(
            command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        output, errors = done.communicate()
        if done.returncode:
            raise CommandError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{errors[-2000:]}")
        if echo:
            print(f"  {output.splitlines()[-1]}", flush=True)
        return output


def asked_archive(description: str) -> Path:
    """The archive of Speech Commands that the command line names, or the excerpt."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("archive", nargs="?", type=Path, default=EXCERPT)
    archive = parser.parse_args().archive.absolute()
    if not archive.is_file():
        parser.error(f"{archive} is no file: an archive of Speech Commands is needed")
    return archive


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _settings(entry: Entry) -> dict:
    epochs = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["train"]["epochs"]
    return {"epochs": epochs} | candidates(entry.candidate)[entry.candidate] | entry.changes


def median_of(trainings: list[Trained]) -> Trained:
    """The training whose accuracy is the median."""
    return sorted(trainings, key=lambda training: training.scores["accuracy"])[len(trainings) // 2]


def main() -> None:
    """Measures, prints and writes all figures."""
    bench = Bench(ROOT / "reports/bench-train", asked_archive(__doc__))
    project = bench.project("speaker", SPEAKER)
    fast = {entry.name: [bench.trained(entry, seed, project) for seed in entry.seeds] for entry in FAST}
    slow = bench.trained(SLOW, 1, project)
    seed_cnn = bench.trained(SEED_CNN, 1, project)
    half = bench.trained(HALF, 1, project)
    shuffled = bench.project("random", RANDOM)
    random_split = bench.trained(BEST, 1, shuffled)
    noise = bench.kept(project, BEST, "waveform_noise", BEST.candidate, str(NOISE_EPOCHS))
    speeds = measured_speeds(bench, project)
    trainings = {SEED_CNN.name: [seed_cnn], **fast, SLOW.name: [slow]}
    results = frontier(trainings, speeds) + goals(trainings, speeds)
    best = speeds[BEST.name]
    results += [
        turns.figure("the best", best.loop, best.bare, best.ratio),
        known_speakers(fast[BEST.name][0], random_split),
    ]
    results += [
        alike("mixed_bfloat16", half.scores, "float32", fast[BEST.name][0].scores),
        alike("noise as power", noise["power"]["clean"], "in waveforms", noise["waveform"]["clean"]),
        alike("noise as power, at 10 dB", noise["power"]["noisy"], "in waveforms", noise["waveform"]["noisy"]),
    ]
    figures.show("training", results)
    figures.write("train", results, ROOT / "reports")


def lost_in_noise(trained: Trained) -> float:
    """Points of accuracy that background noise at 10 dB takes."""
    return 100 * (trained.scores["accuracy"] - trained.scores["noisy_accuracy"])


def measured_speeds(bench: Bench, project: Path) -> dict[str, Speed]:
    """The speed of each candidate, by the names of their entries."""
    entries = (SEED_CNN, *FAST, SLOW)
    rounds = [{entry.name: bench.speed(entry, project, number) for entry in entries} for number in range(1, ROUNDS + 1)]
    keys = [field.name for field in fields(Speed)]
    return {
        entry.name: Speed(**{key: statistics.median(speeds[entry.name][key] for speeds in rounds) for key in keys})
        for entry in entries
    }


def frontier(trainings: dict[str, list[Trained]], speeds: dict[str, Speed]) -> list[Figure]:
    """One line a candidate: accuracy with its interval, size, latency, time."""
    return [_line(name, trained, speeds[name]) for name, trained in trainings.items()]


def _line(name: str, trained: list[Trained], speed: Speed) -> Figure:
    median = median_of(trained)
    scores, (low, high) = median.scores, median.scores["accuracy_ci95"]
    seeds = f"median of {len(trained)} seeds" if len(trained) > 1 else "one seed"
    spread = f"{100 * low:.1f} to {100 * high:.1f} %, {seeds}, {lost_in_noise(median):.1f} points lost at 10 dB"
    size = f"{scores['parameters']:,} parameters, {scores['saved_bytes'] / 1e6:.2f} MB, {speed.latency_ms:.1f} ms"
    accuracy = 100 * scores["accuracy"]
    epochs = f"{len(median.history)} epochs at {speed.loop:,.0f} clips/s"
    return Figure(f"{name}: test accuracy", accuracy, "%", f"{spread}; {size}, {epochs}", accuracy, ">= 90")


def goals(trainings: dict[str, list[Trained]], speeds: dict[str, Speed]) -> list[Figure]:
    """The best candidate, and the smallest good one, against seed_cnn."""
    (seed_cnn,), best = trainings[SEED_CNN.name], median_of(trainings[BEST.name])
    theirs, ours = seed_cnn.scores, best.scores
    errors, their_errors = 1 - ours["accuracy"], 1 - theirs["accuracy"]
    target = float(seed_cnn.history["validation_accuracy"].iloc[-1])
    epochs, their_epochs = best.epochs_to(target), seed_cnn.epochs_to(target)
    ratio = epochs / speeds[BEST.name].loop / (their_epochs / speeds[SEED_CNN.name].loop)
    lost = lost_in_noise(best)
    good = [
        median.scores["parameters"] for median in map(median_of, trainings.values()) if median.scores["accuracy"] > 0.9
    ]
    smallest = min(good, default=theirs["parameters"])
    to = f"to {100 * target:.1f} % on validation"
    parameters = ours["parameters"]
    return [
        Figure("errors of the best", 100 * errors, "%", f"seed_cnn: {100 * their_errors:.1f} %",
               errors / their_errors, "<= 0.5"),
        Figure("accuracy of the best", 100 * ours["accuracy"], "%", "95 %", 100 * ours["accuracy"], ">= 95"),
        Figure("parameters of the best", parameters, "", f"seed_cnn: {theirs['parameters']:,}",
               parameters / theirs["parameters"], "<= 0.1428"),
        Figure(f"time {to}", epochs, "epochs", f"seed_cnn: {their_epochs:.0f} epochs", ratio, "<= 0.02"),
        Figure("accuracy lost at 10 dB of background noise", lost, "points", "clean", lost, "<= 3"),
        Figure("parameters of the smallest above 90 %", smallest, "", "70,000", smallest, "< 70000"),
    ]  # fmt: skip


def alike(name: str, ours: dict, other: str, theirs: dict) -> Figure:
    """Accuracy of two ways of training, and by how much ours is better: it is within the other's interval, or above."""
    low, high = theirs["accuracy_ci95"]
    against = f"{other}: {100 * theirs['accuracy']:.1f} %, {100 * low:.1f} to {100 * high:.1f} %"
    accuracy, other_accuracy = 100 * ours["accuracy"], 100 * theirs["accuracy"]
    goal = f">= {100 * low - other_accuracy:.1f}"
    return Figure(f"{name}: test accuracy", accuracy, "%", against, accuracy - other_accuracy, goal)


def known_speakers(new: Trained, known: Trained) -> Figure:
    """Accuracy of BEST on a random split, whose test speakers are also in training, against that on new speakers."""
    ours, theirs = (100 * trained.scores["accuracy"] for trained in (known, new))
    against = f"new speakers: {theirs:.1f} %"
    return Figure(f"{BEST.name}: test accuracy, random split", ours, "%", against, ours - theirs, ">= 0")


if __name__ == "__main__":
    main()
