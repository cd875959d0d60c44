"""`make bench-serve`: what a served model and exported files cost, and what exporting loses, on real recordings.

Run as `python -m tests.benchmarks.serve [archive]`, with tests/ on the path. Each training is `earmark train` in a
project that stays in reports/bench-serve. It ends with 0 where everything could be measured: a goal that is missed
shows in the table.
"""

import base64
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import requests
from support.model_server import serving

from earmark.audio import decode
from earmark.dataset import shards
from earmark.models import conversion, model_folder, runtimes
from tests.benchmarks import figures
from tests.benchmarks.figures import Figure
from tests.benchmarks.train import SPEAKER, Bench, Entry, asked_archive
from tests.conftest import BIN, ROOT, change_params

CANDIDATES = ("tc_resnet", "stem_resnet")
SLOW = ("seed_cnn", "bc_resnet")
"""How fast they listen depends on no weight: they are trained for one epoch."""
MAX_REAL_TIME_FACTOR = 0.05
CALLS = 300
MAX_INT8_KILOBYTES = 400
MAX_LOST_POINTS = 0.5
MAX_REQUEST_MS = 100


def main() -> None:
    """Measures, prints and writes all figures."""
    bench = Bench(ROOT / "reports/bench-serve", asked_archive(__doc__))
    project = bench.project("speaker", SPEAKER)
    for candidate in CANDIDATES:
        bench.trained(Entry(candidate, candidate), 1, project)
    change_params(project, {"export": {"max_accuracy_loss": 1.0}})
    recording = next(
        shards.read_recordings(project / "data/raw", shards.read_accepted(project / "data/accepted.parquet"))
    )
    results = [figure for candidate in CANDIDATES for figure in exported(bench, project, candidate, recording)]
    results += [figure for candidate in CANDIDATES for figure in listened(bench, project, candidate)]
    for candidate in SLOW:
        bench.trained(Entry(candidate, candidate, {"epochs": 1}), 1, project)
        results.append(_real_time_factor(candidate, _listening(bench, project, candidate)))
    results += served(project, recording)
    figures.show("serving and export", results)
    figures.write("serve", results, ROOT / "reports")


def exported(bench: Bench, project: Path, candidate: str, recording: bytes) -> list[Figure]:
    """Each format of a candidate: its size, what it loses, and how long it takes for a clip."""
    classifier = model_folder.load(project / "models" / candidate)
    clip = waveform(classifier, recording)[None]
    original_kilobytes = (project / "models" / candidate / model_folder.MODEL).stat().st_size / 1000
    original_ms = milliseconds(lambda: classifier.model.predict_on_batch(clip))
    against = f"the original: {statistics.median(original_ms):.2f} ms, all cores"
    results = []
    for format, name in conversion.FORMATS.items():
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "out"
            bench.call(project, BIN / "earmark", "export", f"models/{candidate}", str(folder), "--format", format)
            content = (folder / name).read_bytes()
            measured = json.loads((folder / "settings.json").read_text(encoding="utf-8"))["measured"]
        kilobytes, limit = len(content) / 1000, MAX_INT8_KILOBYTES if "int8" in format else original_kilobytes
        lost = 100 * (measured["original_accuracy"] - measured["accuracy"])
        of = f"{100 * measured['accuracy']:.2f} % of {measured['clips']} {measured['split']} clips right"
        runtime = runtimes.opened(content, format)
        ms = statistics.median(milliseconds(lambda runtime=runtime: runtime.predict_on_batch(clip)))
        title = f"{candidate}, {format}"
        results += [
            Figure(f"{title}: size", kilobytes, "kB", f"the original: {original_kilobytes:,.0f} kB",
                   kilobytes, f"< {limit:.0f}"),
            Figure(f"{title}: accuracy lost", lost, "points", of, lost, f"<= {MAX_LOST_POINTS}"),
            Figure(f"{title}: one clip, one core", ms, "ms", against, ms / statistics.median(original_ms), "<= 1.5"),
        ]  # fmt: skip
    return results


def listened(bench: Bench, project: Path, candidate: str) -> list[Figure]:
    """Listening on one core to the test split's clips, strung together with pauses, clean and in noise at 10 dB."""
    outcomes = [_listening(bench, project, candidate, *noise) for noise in ((), ("10",))]
    clean, noisy = ({name: 100 * value for name, value in outcome.items()} for outcome in outcomes)
    missed = f"{clean['wrong']:.1f} % wrong, {clean['twice']:.1f} % twice, {clean['elsewhere']:.1f} % in pauses"
    return [
        _real_time_factor(candidate, outcomes[0]),
        Figure(f"{candidate}, listening: words missed", clean["missed"], "%", missed, clean["missed"], "<= 10"),
        Figure(f"{candidate}, listening at 10 dB: words missed", noisy["missed"], "%",
               f"{noisy['wrong']:.1f} % wrong", noisy["missed"], "<= 25"),
    ]  # fmt: skip


def _listening(bench: Bench, project: Path, candidate: str, *snr_db: str) -> dict:
    """What the benchmark of listening says of a candidate's model."""
    command = [sys.executable, "-m", "tests.benchmarks.listening", f"models/{candidate}", "test", *snr_db]
    return json.loads(bench.call(project, *command).splitlines()[-1])


def _real_time_factor(candidate: str, outcome: dict) -> Figure:
    factor, title = outcome["seconds_per_second"], f"{candidate}, listening: real-time factor, one core"
    against = f"{outcome['minutes']:.0f} minutes with {outcome['words']} words"
    return Figure(title, factor, "s/s", against, factor, f"< {MAX_REAL_TIME_FACTOR}")


def served(project: Path, recording: bytes) -> list[Figure]:
    """A request of one clip to `mlflow models serve`, as a WAV and as samples."""
    from mlflow import MlflowClient

    candidate = CANDIDATES[0]
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, f"tags.candidate = '{candidate}'", order_by=["start_time DESC"])
    model = runs[0].outputs.model_outputs[-1].model_id
    samples = waveform(model_folder.load(project / "models" / candidate), recording).astype(float).tolist()
    bodies = {
        "WAV": {"dataframe_records": [{"wav": base64.b64encode(recording).decode()}]},
        "samples": {"inputs": [samples]},
    }
    results = []
    with tempfile.TemporaryDirectory() as home:
        address = client.get_logged_model(model).artifact_location
        with serving(address, f"sqlite:///{project}/mlflow.db", Path(home)) as server, requests.Session() as session:
            for form, body in bodies.items():
                taken = milliseconds(lambda body=body: post(session, server, body))
                p50, p99 = np.percentile(taken, (50, 99))
                title = f"{candidate}, served: a request of one clip as {form}"
                results += [
                    Figure(f"{title}, p50", p50, "ms", f"{MAX_REQUEST_MS} ms", p50, f"<= {MAX_REQUEST_MS}"),
                    Figure(f"{title}, p99", p99, "ms", f"{MAX_REQUEST_MS} ms", p99, f"<= {MAX_REQUEST_MS}"),
                ]
    return results


def post(session: requests.Session, server: str, body: dict) -> None:
    """One request, answered."""
    session.post(f"{server}/invocations", json=body, timeout=60).raise_for_status()


def waveform(classifier: model_folder.Classifier, recording: bytes) -> np.ndarray:
    """A recording as the model hears it, float32 (samples,)."""
    heard = classifier.front_end
    return decode.clip(recording, heard.sample_rate_hz, heard.clip_samples, heard.padding)


def milliseconds(call: Callable[[], object]) -> list[float]:
    """What each of CALLS calls takes, after as many to warm up as a tenth of them."""
    for _ in range(CALLS // 10):
        call()
    taken = []
    for _ in range(CALLS):
        began = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - began))
    return taken


if __name__ == "__main__":
    main()
