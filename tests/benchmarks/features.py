"""`make bench-features`: extracting features against other ways of doing it, and reading them, on generated clips.

Run as `python -m tests.benchmarks.features`. All runs in a copy of this tree, with a worker for each core; each figure
and what it is compared with are measured in turn, several times, and the medians count. It ends with 0 where
everything could be measured: a goal that is missed shows in the table.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from earmark.io.worker_pool import WORKERS
from tests.benchmarks import data, figures
from tests.benchmarks.data import FULL_CLIPS
from tests.benchmarks.extraction import CLIPS_IN_A_CALL, remove_features
from tests.benchmarks.figures import Figure
from tests.benchmarks.processes import CommandError
from tests.conftest import candidates, change_params

ROUNDS = 5
READING_ROUNDS = 3
STREAMED_CLIPS, FEWER_STREAMED_CLIPS, HELD_CLIPS = 500_000, 125_000, 60_000
STREAMED_CLIPS_PER_SECOND = 100_000
_LIBRARY_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class OtherWay:
    """What a front end is compared with: a module that takes the names of files and prints clips per second."""

    front_end: str
    candidate: str
    name: str
    module: str
    clips: int
    goal: str
    threads: dict[str, str]


TUTORIAL = OtherWay("spectrogram", "seed_cnn", "the tutorial's tf.data", "tutorial_way", 4_000, ">= 3", {})
LIBROSA = OtherWay(
    "log_mel", "tc_resnet", "librosa in processes", "librosa_way", 2_000, ">= 10", dict.fromkeys(_LIBRARY_THREADS, "1")
)


class Bench(data.Bench):
    """One run, with a worker for each core, whose measurements may also print what they find."""

    def environment(self) -> dict[str, str]:
        """The environment of every command."""
        return super().environment() | {WORKERS: str(len(os.sched_getaffinity(0)))}

    def output(self, module: str, *arguments: str, given: str = "", threads: dict[str, str] | None = None):
        """What `python -m tests.benchmarks.<module>`, run in the project with `given` as its input, prints as JSON."""
        command = [sys.executable, "-m", f"tests.benchmarks.{module}", *arguments]
        environment = self.environment() | (threads or {})
        done = subprocess.run(
            command, cwd=self.project, env=environment, input=given, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise CommandError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        print(f"  {module} {' '.join(arguments)}: {done.stdout.strip()}".replace(str(self.folder), "…"), flush=True)
        return json.loads(done.stdout)

    def loose_files(self, count: int) -> list[str]:
        """`count` loose WAV files, spread evenly over all."""
        paths = sorted(str(path) for path in self.corpus.loose.glob("[!_]*/*.wav"))
        return [paths[at * len(paths) // count] for at in range(count)]


@dataclass(frozen=True)
class Rates:
    """Clips per second: of extraction itself, of the whole command, of the other way, and of the bare rfft for each
    count of clips in a call."""

    extraction: float
    command: float
    other: float
    rfft: dict[int, float]


def spectrogram_figures(bench: Bench) -> list[Figure]:
    """`earmark extract` of spectrograms, against the tutorial's way and the bare FFT."""
    return _extraction_figures(bench, TUTORIAL)


def log_mel_figures(bench: Bench) -> list[Figure]:
    """`earmark extract` of log-mel features, against librosa and the bare FFT."""
    return _extraction_figures(bench, LIBROSA)


def _extraction_figures(bench: Bench, way: OtherWay) -> list[Figure]:
    change_params(bench.project, {"train": {"candidates": candidates(way.candidate)}})
    files = bench.loose_files(min(way.clips, bench.count))
    rates = _median([_measured(bench, way, files) for _ in range(ROUNDS)])
    other = rates.other, f"{way.name}, {len(files):,} loose WAV files: {rates.other:,.0f} clips/s", way.goal
    itself = f"extract {way.front_end}, shards to shards"
    return [
        _figure(f"extract {way.front_end}, the whole command", rates.command, *other),
        _figure(itself, rates.extraction, *other),
        *(
            _figure(itself, rates.extraction, rate, f"bare rfft, {clips} clips a call: {rate:,.0f} clips/s", ">= 0.45")
            for clips, rate in rates.rfft.items()
        ),
    ]


def _measured(bench: Bench, way: OtherWay, files: Sequence[str]) -> Rates:
    extraction = bench.output("extraction")
    remove_features(bench.project)
    command = bench.call(bench.project, "earmark", "extract").seconds
    other = bench.output(way.module, given="\n".join(files), threads=way.threads)
    rfft = {clips: extraction["rfft"][str(clips)] for clips in CLIPS_IN_A_CALL}
    return Rates(bench.count / extraction["seconds"], bench.count / command, other, rfft)


def _median(rounds: Sequence[Rates]) -> Rates:
    extraction, command, other = (
        statistics.median(getattr(rates, name) for rates in rounds) for name in ("extraction", "command", "other")
    )
    rfft = {clips: statistics.median(rates.rfft[clips] for rates in rounds) for clips in CLIPS_IN_A_CALL}
    return Rates(extraction, command, other, rfft)


def _figure(name: str, rate: float, other: float, against: str, goal: str) -> Figure:
    return Figure(name, rate, "clips/s", against, rate / other, goal)


def reading_figures(bench: Bench) -> list[Figure]:
    """Reading log-mel features: an epoch streamed from shards, its memory, and one held in memory."""
    remove_features(bench.project)
    folder = str(bench.folder / "streamed")
    bench.output("reading", "write", folder, str(STREAMED_CLIPS))
    many, few, held = [], [], []
    for _ in range(READING_ROUNDS):
        many.append(bench.output("reading", "stream", folder, str(STREAMED_CLIPS)))
        few.append(bench.output("reading", "stream", folder, str(FEWER_STREAMED_CLIPS)))
        held.append(bench.output("reading", "hold", folder, str(HELD_CLIPS)))
    shutil.rmtree(folder)
    return [*_streaming_figures(many), _memory_figure(many, few), _held_figure(held)]


def _streaming_figures(readings: list[dict]) -> list[Figure]:
    epoch = STREAMED_CLIPS / _median_of(readings, "epoch")
    first = STREAMED_CLIPS / statistics.median(reading["opening"] + reading["epoch"] for reading in readings)
    against = f"{STREAMED_CLIPS_PER_SECOND:,} clips/s"
    name = f"stream {STREAMED_CLIPS:,} log_mel clips, shuffled"
    return [
        Figure(name, epoch, "clips/s", against, epoch / STREAMED_CLIPS_PER_SECOND, ">= 1"),
        Figure(f"{name}, with checking", first, "clips/s", against, first / STREAMED_CLIPS_PER_SECOND, ">= 1"),
    ]


def _memory_figure(many: list[dict], few: list[dict]) -> Figure:
    ours, theirs = _median_of(many, "grown_bytes"), _median_of(few, "grown_bytes")
    against = f"{FEWER_STREAMED_CLIPS:,} clips: {theirs / 2**20:.0f} MiB"
    return Figure(f"memory to stream {STREAMED_CLIPS:,} clips", ours / 2**20, "MiB", against, ours / theirs, "<= 1.25")


def _held_figure(readings: list[dict]) -> Figure:
    ours, theirs = _median_of(readings, "held") / 1e9, _median_of(readings, "gather") / 1e9
    against = f"NumPy gather of the same clips: {theirs:.2f} GB/s"
    return Figure(f"read {HELD_CLIPS:,} held log_mel clips, shuffled", ours, "GB/s", against, ours / theirs, ">= 0.9")


def _median_of(readings: list[dict], name: str) -> float:
    return statistics.median(reading[name] for reading in readings)


PARTS: dict[str, Callable[[Bench], list[Figure]]] = {
    "spectrogram": spectrogram_figures,
    "log_mel": log_mel_figures,
    "reading": reading_figures,
}


def run(folder: Path, count: int, parts: set[str]) -> tuple[list[Figure], list[str], dict[str, float]]:
    """The figures of `parts`, measured in `folder`; what could not be measured; and sizes, each with what it is of."""
    print(f"generating {count:,} clips in {folder}", flush=True)
    bench = Bench(folder, count)
    bench.new_project()
    bench.stage("ingest")
    remove_features(bench.project)
    sizes = bench.output("sizes")
    results, failures = [], []
    for name, part in PARTS.items():
        if name in parts:
            try:
                results += part(bench)
            except CommandError as error:
                failures.append(f"{name} could not be measured: {error}")
    return results, failures, sizes


def main() -> int:
    """Measures, prints the table and writes the JSON; 1 where a command failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.features", description=__doc__.partition("\n")[0])
    parts_help = f"{', '.join(PARTS)}; default: all"
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="PART", help=parts_help)
    parser.add_argument("--clips", type=int, default=FULL_CLIPS, help="how many; default: %(default)s")
    parser.add_argument("--folder", type=Path, help="where the recordings are generated, about 15 GB; default: TMPDIR")
    parser.add_argument("--reports", type=Path, default=Path("reports"), help="where the JSON goes; default: reports")
    chosen = parser.parse_args()
    title = f"bench-features: {chosen.clips:,} clips, {len(os.sched_getaffinity(0))} CPU cores"
    print(title)
    with tempfile.TemporaryDirectory(prefix="earmark-bench-", dir=chosen.folder) as folder:
        results, failures, sizes = run(Path(folder), chosen.clips, set(chosen.parts or PARTS))
    figures.show(title, results)
    for name, size in sizes.items():
        print(f"{name}: {size:,.0f}{' bytes' * ('clips' not in name)}")
    for failure in failures:
        print(failure, file=sys.stderr)
    print(figures.write("features", results, chosen.reports))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
