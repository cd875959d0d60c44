"""The whole pipeline as a DVC user runs it, on a small embedded data set, and what people do with its results."""

import io
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from conftest import BIN, FAST_TC_RESNET, OPEN_GATE, THREADS, candidates, change_params, copied
from support.chromium import CHROMIUM, assert_whole, chromium

SHARES = {"training": 0.7, "validation": 0.1, "test": 0.2}
EPOCHS = FAST_TC_RESNET["epochs"]
TWO_THREADS = dict.fromkeys(THREADS, "2")


@pytest.fixture(scope="module")
def project(registered, tmp_path_factory) -> Path:
    """A checkout in which `dvc repro` and `earmark register` have run once, with the results committed; a test that
    changes it takes a copy."""
    folder = copied(registered, tmp_path_factory.mktemp("pipeline") / "project")
    for command in (["add", "dvc.lock", "reports/metrics.json"], ["commit", "-qm", "results"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


@pytest.fixture
def copy(project, tmp_path) -> Path:
    """A copy of that for one test."""
    return copied(project, tmp_path / "project")


@pytest.fixture
def client(project):
    mlflow.set_tracking_uri(f"sqlite:///{project}/mlflow.db")
    yield mlflow.MlflowClient()
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # which set_tracking_uri left for every later subprocess


def test_metrics_have_the_agreed_shape(project):
    metrics = json.loads((project / "reports/metrics.json").read_text())
    assert metrics["best"] == "tc_resnet"
    entry = metrics["candidates"]["tc_resnet"]
    low, high = entry["test"]["accuracy_ci95"]
    assert 0 <= low <= entry["test"]["accuracy"] <= high <= 1
    assert {"validation", "test", "parameters", "saved_bytes", "latency_ms_p50", "train_seconds"} <= set(entry)


def test_every_prediction_is_in_a_file_and_adds_up_to_the_accuracy(project):
    predictions = pd.read_csv(project / "reports/predictions.csv")
    test = predictions[predictions["split"] == "test"]
    metrics = json.loads((project / "reports/metrics.json").read_text())
    accuracy = metrics["candidates"]["tc_resnet"]["test"]["accuracy"]
    assert (test["label"] == test["predicted"]).mean() == pytest.approx(accuracy)
    accepted = pd.read_parquet(project / "data/accepted.parquet")
    assert set(predictions["id"]) == set(accepted.loc[accepted["split"] != "training", "id"])


def test_no_speaker_is_in_two_splits(project):
    accepted = pd.read_parquet(project / "data/accepted.parquet")
    assert (accepted.groupby("speaker")["split"].nunique() == 1).all()


def test_a_second_run_trains_nothing_and_registers_nothing(project, run, earmark, client):
    again = run(project, "dvc", "repro")
    assert again.returncode == 0
    assert "nothing new in synthetic" in again.stdout
    for stage in ("validate", "extract", "train@tc_resnet", "evaluate"):
        assert f"Stage '{stage}' didn't change, skipping" in again.stdout
    assert "nothing new to register" in earmark(project, "register").stdout
    assert len(client.search_model_versions("name = 'earmark'")) == 1
    assert len(client.search_runs([client.get_experiment_by_name("earmark").experiment_id])) == 1


@pytest.mark.parametrize(
    ("settings", "trained"),
    [
        ({"tc_resnet": FAST_TC_RESNET | {"label_smoothing": 0.1}}, "train@tc_resnet"),
        ({"tc_resnet": FAST_TC_RESNET} | candidates("stem_resnet"), "train@stem_resnet"),
    ],
    ids=["changed", "added"],
)
def test_settings_of_a_candidate_train_that_one_only(copy, run, settings, trained):
    change_params(copy, {"train": {"candidates": settings}})
    extracted = run(copy, "dvc", "repro", "extract")
    assert extracted.returncode == 0, extracted.stdout + extracted.stderr
    assert "0 of 1 shards were new" in extracted.stdout
    stale = json.loads(run(copy, "dvc", "status", "--json").stdout)
    assert set(stale) == {"ingest", trained, "evaluate"}


def appended(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "change", "error"),
    [
        (
            "params.yaml",
            lambda folder: change_params(folder, {"train": {"epochs": 9}}),
            "params.yaml train.epochs: changed since DVC's last run of train@tc_resnet",
        ),
        (
            "src/earmark/training/fitting.py",
            lambda folder: appended(folder / "src/earmark/training/fitting.py"),
            "src/earmark/training/fitting.py: changed since DVC's last run of train@tc_resnet",
        ),
        (
            "data/accepted.parquet",
            lambda folder: (
                pd.read_parquet(folder / "data/accepted.parquet").iloc[1:].to_parquet(folder / "data/accepted.parquet")
            ),
            "data/accepted.parquet: changed since DVC's last run of validate",
        ),
        (
            "reports/report.html",
            lambda folder: appended(folder / "reports/report.html"),
            "reports/report.html: changed since DVC's last run of evaluate",
        ),
    ],
)
def test_what_is_not_what_the_model_was_made_from_is_not_registered_with_it(copy, earmark, name, change, error):
    change(copy)
    done = earmark(copy, "register")
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert f"{error}; run 'dvc repro' first" in done.stderr


def test_parameters_that_make_no_result_may_have_changed(copy, earmark):
    change_params(copy, {"register": {"gate": OPEN_GATE | {"min_saving": 0.3}}})
    done = earmark(copy, "register")
    assert done.returncode == 0, done.stderr


def test_the_run_in_mlflow_says_what_made_the_model(project, client):
    runs = client.search_runs([client.get_experiment_by_name("earmark").experiment_id], order_by=["start_time ASC"])
    run = runs[0]
    assert run.data.params["train.epochs"] == str(EPOCHS)
    history = client.get_metric_history(run.info.run_id, "validation_accuracy")
    assert [point.step for point in history] == [*range(1, EPOCHS + 1)]
    assert run.inputs.dataset_inputs[0].dataset.name == "synthetic"
    assert len(run.data.tags["git_commit"]) == 40
    assert run.data.tags["dvc.data/raw"].endswith(".dir")
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"confusion.html", "report.html", "tc_resnet.csv", "validation", "evaluation", "provenance"} <= files


def test_the_same_numbers_are_in_mlflow_as_in_metrics_json(project, client):
    entry = json.loads((project / "reports/metrics.json").read_text())["candidates"]["tc_resnet"]
    logged = client.get_run(client.get_model_version_by_alias("earmark", "champion").run_id).data.metrics
    for split in ("validation", "test"):
        scores = entry[split]
        assert logged[f"evaluated_{split}_accuracy"] == scores["accuracy"]
        assert logged[f"evaluated_{split}_macro_f1_ci95_low"] == scores["macro_f1_ci95"][0]
        for level, accuracy in scores["accuracy_in_noise"].items():
            assert logged[f"evaluated_{split}_accuracy_in_noise_{level}"] == accuracy
        assert logged[f"evaluated_{split}_rejection_miss_rate"] == scores["rejection"]["miss_rate"]
    assert logged["multiply_adds"] == entry["multiply_adds"]
    assert logged["latency_ms_p99"] == entry["latency_ms_p99"]


def test_the_champion_in_the_registry_answers_without_earmark(project, client):
    version = client.get_model_version_by_alias("earmark", "champion")
    assert version.version in (1, "1")
    assert version.description
    assert len(version.tags["content_sha256"]) == 64
    place = Path(client.get_model_version_download_uri("earmark", version.version).removeprefix("file://"))
    assert re.search(r"^tensorflow==\d", (place / "requirements.txt").read_text(), re.MULTILINE)
    model = mlflow.pyfunc.load_model("models:/earmark@champion")
    assert model.metadata.signature is not None
    assert model.metadata.saved_input_example_info is not None
    answer = model.predict(np.zeros((2, 16000), dtype=np.float32))
    assert list(answer.columns) == ["label", "probability", "accepted", "probabilities"]
    assert len(answer) == 2


def test_predict_goes_on_after_a_file_that_cannot_be_read(project, run, earmark, tmp_path):
    recording = next_clip(project, tmp_path)
    (tmp_path / "broken.wav").write_bytes(b"no audio")
    done = run(project, "earmark", "predict", "--json", str(tmp_path), str(tmp_path / "absent.wav"))
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    by_name = {Path(line["file"]).name: line for line in lines}
    assert done.returncode == 1
    assert set(by_name[recording.name]) == {"file", "label", "probability", "accepted", "top"}
    assert len(by_name[recording.name]["top"]) == 5
    assert by_name[recording.name]["top"][0]["label"] == by_name[recording.name]["label"]
    assert "error" in by_name["broken.wav"]
    assert "error" in by_name["absent.wav"]
    local = earmark(project, "predict", "--model", "models/tc_resnet", str(recording))
    assert local.returncode == 0
    assert by_name[recording.name]["label"] in local.stdout


def next_clip(project: Path, folder: Path) -> Path:
    row = pd.read_parquet(project / "data/accepted.parquet").iloc[0]
    path = folder / "clip.wav"
    with (project / "data/raw" / row["shard"]).open("rb") as shard:
        shard.seek(row["offset"])
        path.write_bytes(shard.read(row["length"]))
    return path


def test_predict_that_can_answer_for_no_file_is_a_mistake(project, earmark, tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"no audio")
    done = earmark(project, "predict", "--model", "models/tc_resnet", str(tmp_path))
    assert done.returncode == 2
    assert "not a recording" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--model", "models:/earmark@nobody"], "earmark has no version or alias 'nobody'"),
        (["--model", "models:/earmark"], "models:/earmark is no address of a version"),
        (["--model", "models/absent"], "models/absent"),
    ],
)
def test_predict_refuses_a_model_that_is_not_there(project, earmark, tmp_path, arguments, error):
    done = earmark(project, "predict", str(next_clip(project, tmp_path)), *arguments)
    assert done.returncode == 2
    assert error in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("section", "value", "error"),
    [
        ("dataset", {"source": "/no/such/folder"}, "/no/such/folder"),
        ("dataset", {"labels": ["yes", "nonsense"]}, "'nonsense'"),
        ("validate", {"min_clips_per_label": 500}, "at least 500 clips of each label"),
    ],
)
def test_a_users_mistake_is_one_sentence_and_leaves_everything_as_it_was(copy, earmark, section, value, error):
    before = {path: path.stat().st_mtime_ns for path in (copy / "data").rglob("*")}
    change_params(copy, {section: value})
    done = earmark(copy, "ingest" if "source" in value else "validate")
    assert done.returncode == 2
    assert error in done.stderr
    assert "Traceback" not in done.stderr
    assert {path: path.stat().st_mtime_ns for path in (copy / "data").rglob("*")} == before


def test_dvc_shows_metrics_plots_and_the_graph(project, run):
    metrics = json.loads(run(project, "dvc", "metrics", "show", "--json").stdout)
    [figures] = [row["data"] for row in metrics[""]["data"].values()]
    scores = figures["candidates"]["tc_resnet"]["test"]
    assert scores["accuracy_ci95_low"] <= scores["accuracy"] <= scores["accuracy_ci95_high"]
    assert "train@tc_resnet" in run(project, "dvc", "dag").stdout
    plots = run(project, "dvc", "plots", "show", "--json")
    assert plots.returncode == 0, plots.stderr
    drawn = json.loads(plots.stdout)["data"]
    folders = ("training", "noise", "calibration", "calibration/validation", "labels", "slices")
    assert set(drawn) == {"reports/confusion.csv", *(f"reports/{folder}/tc_resnet.csv" for folder in folders)}
    of_labels = drawn["reports/labels/tc_resnet.csv"][0]["content"]["data"]["values"]
    assert {row["label"] for row in of_labels} == set(pd.read_csv(project / "reports/labels.csv")["label"])


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")
def test_the_page_of_a_real_evaluation_is_whole_in_a_browser(project, tmp_path):
    with chromium(tmp_path / "profile") as tab:
        tab.open(project / "reports/registered.html")
        assert_whole(tab)


@pytest.mark.slow
def test_dvc_queues_experiments_and_leaves_the_workspace_alone(project, run, tmp_path):
    names = ("params.yaml", "models/tc_resnet/model.keras", "reports/metrics.json", "reports/report.html")
    before = {name: (project / name).read_bytes() for name in names}
    change = ("-S", "train.candidates.tc_resnet.epochs=1", "-S", "train.candidates.tc_resnet.network.dropout=0.25")
    queued = run(project, "dvc", "exp", "run", "--queue", *change, "-s", "train@tc_resnet", "evaluate")
    assert queued.returncode == 0, queued.stdout + queued.stderr
    # Into a file: the worker that it leaves would hold a pipe open until it has been idle for long enough.
    path = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    with (tmp_path / "log").open("w") as log:
        command = [BIN / "dvc", "exp", "run", "--run-all"]
        done = subprocess.run(command, cwd=project, env=os.environ | path, stdout=log, stderr=log, timeout=600)
    assert done.returncode == 0, (tmp_path / "log").read_text()
    assert run(project, "dvc", "queue", "stop").returncode == 0
    experiments = pd.read_csv(io.StringIO(run(project, "dvc", "exp", "show", "--csv").stdout))
    (row,) = experiments[experiments["train.candidates.tc_resnet.network.dropout"] == 0.25].to_dict("records")
    assert 0 < row["candidates.tc_resnet.test.accuracy"] <= 1
    assert {name: (project / name).read_bytes() for name in before} == before


@pytest.fixture(scope="module")
def experiment(project, run, tmp_path_factory) -> Path:
    """The checkout after an experiment of one epoch, on two threads."""
    folder = copied(project, tmp_path_factory.mktemp("experiment") / "project")
    done = run(folder, "dvc", "exp", "run", "-S", "train.candidates.tc_resnet.epochs=1", **TWO_THREADS)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_an_experiment_becomes_a_second_version_compared_with_the_champion(experiment, run, earmark, tmp_path):
    assert "train.candidates.tc_resnet.epochs" in run(experiment, "dvc", "params", "diff").stdout
    assert len(pd.read_csv(experiment / "reports/training/tc_resnet.csv")) == 1
    folder = copied(experiment, tmp_path / "project")
    done = earmark(folder, "register")
    assert done.returncode == 0, done.stderr
    assert "registered tc_resnet as earmark version 2, challenger: " in done.stdout
    assert "clips right, the champion" in done.stdout
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    version = client.get_model_version("earmark", "2")
    assert version.aliases == ["challenger"]
    assert version.tags["verdict"].startswith("challenger: ")
    assert str(client.get_model_version_by_alias("earmark", "champion").version) == "1"


def test_training_twice_gives_the_same_bytes(experiment, run, tmp_path):
    folder = copied(experiment, tmp_path / "project")
    shutil.rmtree(folder / "models/tc_resnet")
    done = run(folder, "earmark", "train", "tc_resnet", **TWO_THREADS)
    assert done.returncode == 0, done.stdout + done.stderr
    again, before = (root / "models/tc_resnet/model.keras" for root in (folder, experiment))
    assert again.read_bytes() == before.read_bytes()


def test_a_champion_that_was_trained_on_todays_test_clips_is_not_compared(experiment, earmark, tmp_path):
    folder = copied(experiment, tmp_path / "project")
    (folder / "dvc.lock").unlink()  # what follows is none of DVC's
    change_params(folder, {"split": {"method": "random", "fractions": SHARES}})
    for stage in ("ingest", "validate", "evaluate", "register"):
        done = earmark(folder, stage)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "challenger: against the champion: it cannot be scored: it was trained on" in done.stdout
