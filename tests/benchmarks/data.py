"""`make bench-data`: what raw audio costs in shards, and what is new costs, on generated clips.

Run as `python -m tests.benchmarks.data`. It measures commands as people call them, each a process of its own, in a
copy of this tree; all ratios are of one run. It ends with 0 where everything could be measured: a goal that is missed
shows in the table.
"""

import argparse
import hashlib
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.benchmarks import clips, figures
from tests.benchmarks.clips import Corpus
from tests.benchmarks.figures import Figure
from tests.benchmarks.processes import CommandError, Cost, measure
from tests.conftest import BIN, ROOT, candidates, change_params, checkout

FULL_CLIPS = 64_727
MEMORY_LIMIT_BYTES = 2**30
STATUS_RUNS = 5
# TensorFlow's oneDNN corrupts memory while it trains convolutions of fewer than 16 channels.
_TINY_NETWORK = {"channels": [16, 16], "blocks_per_stage": 1, "kernel_size": 3, "dropout": 0.0}
_SHORTEST_SECONDS = 0.05  # less than this after its start-up cannot be told from noise


class Bench:
    """One run: its folder, its generated recordings, the project under measurement and what its stages cost."""

    def __init__(self, folder: Path, count: int):
        self.folder, self.count = folder, count
        # Elsewhere: the kernel counts the memory of the process that starts a command as the command's own.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as elsewhere:
            self.corpus: Corpus = elsewhere.submit(clips.generate, folder, count).result()
        self.project = folder / "project"
        self.stages: dict[str, list[Cost]] = {}

    def call(self, folder: Path, *command: str, watch_memory: bool = False) -> Cost:
        """What `command`, run in `folder`, costs; prints it."""
        cost = measure(command, folder, self.environment(), watch_memory=watch_memory)
        print(f"  {folder.name}$ {' '.join(command).replace(str(self.folder), '…')}: {cost}", flush=True)
        return cost

    def stage(self, name: str) -> Cost:
        """What `earmark <name>` costs in the project."""
        cost = self.call(self.project, "earmark", name, watch_memory=True)
        self.stages.setdefault(name, []).append(cost)
        return cost

    def new_project(self) -> None:
        """A fresh copy of this tree that reads the archive, and trains next to nothing."""
        shutil.rmtree(self.project, ignore_errors=True)
        self.project.mkdir()
        source = {"source": str(self.corpus.archive), "labels": []}
        tiny = candidates("tc_resnet", epochs=1, network=_TINY_NETWORK)
        checkout(self.project, {"dataset": source, "train": {"candidates": tiny}})

    def environment(self) -> dict[str, str]:
        """The environment of every command."""
        # The tree as it was when the run began, and DVC with the settings that it ships, whatever this machine has.
        ours = {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.project / "src"),
            "DVC_GLOBAL_CONFIG_DIR": str(self.folder / "dvc"),
            "DVC_SYSTEM_CONFIG_DIR": str(self.folder / "dvc"),
            "DVC_SITE_CACHE_DIR": str(self.folder / "dvc"),
        }
        quiet = dict.fromkeys(("DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY", "DVC_NO_ANALYTICS"), "true")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "DVC_"))}
        return inherited | ours | quiet


def ingest_figures(bench: Bench) -> list[Figure]:
    """The first ingestion of the archive, against reading it once with other tools."""
    unpack = ("sh", "-c", f"gzip -dc '{bench.corpus.archive}' | sha256sum")
    reading, ingesting = [], []
    for _ in range(2 if bench.count > 10_000 else 3):
        bench.new_project()
        reading.append(bench.call(bench.folder, *unpack).seconds)
        ingesting.append(bench.stage("ingest").seconds)
    ours, theirs = statistics.median(ingesting), statistics.median(reading)
    against = f"gzip -dc | sha256sum: {theirs:.2f} s"
    return [Figure(f"ingest {bench.count:,} clips from .tar.gz", ours, "s", against, ours / theirs, "<= 1.5")]


def dvc_figures(bench: Bench) -> list[Figure]:
    """DVC with raw shards, against DVC with the same recordings as loose WAV files."""
    startup = _startup_seconds(bench)
    loose = _tracked_seconds(bench, "loose", bench.corpus.loose)
    shards = _tracked_seconds(bench, "shards", bench.project / "data" / "raw")
    per_command = [_many_to_few(f"dvc {name} of raw shards", shards[name], loose[name]) for name in shards]
    net = [max(seconds["status"] - startup, _SHORTEST_SECONDS) for seconds in (shards, loose)]
    return [*per_command, _many_to_few(f"dvc status of raw shards, less {startup:.2f} s for an empty repository", *net)]


def _many_to_few(name: str, shards_seconds: float, loose_seconds: float) -> Figure:
    ratio = loose_seconds / shards_seconds
    return Figure(name, shards_seconds, "s", f"loose WAV files: {loose_seconds:.2f} s", ratio, ">= 8")


def _startup_seconds(bench: Bench) -> float:
    """Seconds of `dvc status` in a repository that tracks nothing."""
    empty = _dvc_repository(bench, bench.folder / "empty")
    return _median_seconds(bench, empty, "dvc", "status")


def _dvc_repository(bench: Bench, folder: Path) -> Path:
    """A new repository with this tree's DVC settings and a remote in a folder."""
    folder.mkdir()
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"]):
        subprocess.run(command, cwd=folder, env=bench.environment(), check=True)
    shutil.copy(ROOT / ".dvc" / "config", folder / ".dvc" / "config")
    remote = ["dvc", "remote", "add", "-q", "--local", "-d", "store", str(folder / "store")]
    subprocess.run(remote, cwd=folder, env=bench.environment(), check=True)
    return folder


def _tracked_seconds(bench: Bench, name: str, recordings: Path) -> dict[str, float]:
    """Seconds of `dvc add`, of `dvc status` with nothing changed, and of `dvc push`, of a copy of `recordings`."""
    repository = _dvc_repository(bench, bench.folder / name)
    shutil.copytree(recordings, repository / "data")
    add = bench.call(repository, "dvc", "add", "data").seconds
    status = _median_seconds(bench, repository, "dvc", "status")
    push = bench.call(repository, "dvc", "push").seconds
    shutil.rmtree(repository)  # before the next one: pages that the kernel must fetch afresh would slow it
    return {"add": add, "status": status, "push": push}


def _median_seconds(bench: Bench, folder: Path, *command: str) -> float:
    return statistics.median(bench.call(folder, *command).seconds for _ in range(STATUS_RUNS))


def growth_figures(bench: Bench) -> list[Figure]:
    """What one more clip for each hundred costs, against the first time."""
    stages = ("ingest", "validate", "extract")
    bench.stage("validate")
    bench.stage("extract")
    before = _feature_hashes(bench.project)
    first = sum(bench.stages[name][-1].seconds for name in stages)
    change_params(bench.project, {"dataset": {"inbox": str(bench.corpus.inbox)}})
    again = sum(bench.stage(name).seconds for name in stages)
    after = _feature_hashes(bench.project)
    changed = sum(after.get(path) != sha256 for path, sha256 in before.items())
    new = len(after) - len(before)
    against = f"the first time: {first:.2f} s"
    return [
        Figure("ingest, validate and extract 1 % new clips", again, "s", against, again / first, "<= 0.06"),
        Figure("feature shards of old clips that changed", changed, "files", f"of {len(before)}", changed, "= 0"),
        Figure("feature shards of new clips", new, "files", "none before", new, ">= 1"),
    ]


def _feature_hashes(project: Path) -> dict[str, str]:
    shards = sorted((project / "data" / "features").glob("*/shard-*"))
    return {str(path): _sha256(path) for path in shards}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def nothing_new_figures(bench: Bench) -> list[Figure]:
    """`dvc repro` of the whole pipeline where there is nothing to do, against DVC's own start."""
    change_params(bench.project, {"dataset": {"labels": clips.LABELS[:2]}})
    for _ in range(2):
        bench.call(bench.project, "dvc", "repro")
    version = _median_seconds(bench, bench.project, "dvc", "version")
    repro = _median_seconds(bench, bench.project, "dvc", "repro")
    against = f"dvc version: {version:.2f} s"
    return [Figure("dvc repro with nothing new", repro, "s", against, repro / version, "<= 4")]


def memory_figures(bench: Bench) -> list[Figure]:
    """The peak memory of every data stage that was measured."""
    peaks = {name: max(cost.peak_bytes for cost in costs) for name, costs in bench.stages.items()}
    return [
        Figure(f"peak memory of {name}", peak / 2**20, "MiB", "1 GiB", peak / MEMORY_LIMIT_BYTES, "< 1")
        for name, peak in peaks.items()
    ]


PARTS: dict[str, Callable[[Bench], list[Figure]]] = {
    "ingest": ingest_figures,
    "dvc": dvc_figures,
    "growth": growth_figures,
    "nothing-new": nothing_new_figures,
    "memory": memory_figures,
}


def run(folder: Path, count: int, parts: set[str]) -> tuple[list[Figure], list[str]]:
    """The figures of `parts`, measured in `folder`, and what could not be measured. `ingest` is always a part."""
    print(f"generating {count:,} clips in {folder}", flush=True)
    bench = Bench(folder, count)
    results, failures = [], []
    for name, part in PARTS.items():
        if name == "ingest" or name in parts:
            try:
                results += part(bench)
            except CommandError as error:
                failures.append(f"{name} could not be measured: {error}")
    return results, failures


def main() -> int:
    """Measures, prints the table and writes the JSON; 1 where a command failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.data", description=__doc__.partition("\n")[0])
    allowed = f"{', '.join(PARTS)}; default: all; ingest is always one"
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="PART", help=allowed)
    parser.add_argument("--clips", type=int, default=FULL_CLIPS, help="how many; default: %(default)s")
    parser.add_argument("--folder", type=Path, help="where the recordings are generated, about 15 GB; default: TMPDIR")
    parser.add_argument("--reports", type=Path, default=Path("reports"), help="where the JSON goes; default: reports")
    chosen = parser.parse_args()
    title = f"bench-data: {chosen.clips:,} clips, {len(os.sched_getaffinity(0))} CPU cores"
    print(title)
    with tempfile.TemporaryDirectory(prefix="earmark-bench-", dir=chosen.folder) as folder:
        results, failures = run(Path(folder), chosen.clips, set(chosen.parts or PARTS))
    figures.show(title, results)
    for failure in failures:
        print(failure, file=sys.stderr)
    print(figures.write("data", results, chosen.reports))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
