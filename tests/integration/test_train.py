"""The stage train: killed and started again, and what it says of data that it cannot train on."""

import hashlib
import re
import signal
import subprocess
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from conftest import BIN, candidates, change_params, copied
from conftest import EXTRACTED_EPOCHS as EPOCHS
from support.prefect_server import wait_until

from earmark import params
from earmark.features import feature_shards, front_ends
from earmark.io.hashing import content_sha256
from earmark.provenance import environment


def change_candidate(folder: Path, **settings) -> None:
    """Changes settings of tc_resnet in the checkout's params.yaml."""
    change_params(folder, {"train": {"candidates": candidates("tc_resnet", **settings)}})


def kill_after_epoch(folder: Path, epoch: int) -> None:
    """Starts a training and kills it once its log tells of this epoch."""
    log = folder / "logs/tc_resnet.log"
    process = subprocess.Popen(
        [BIN / "earmark", "train", "tc_resnet"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: log.exists() and f"epoch {epoch}/" in log.read_text(), 300, f"epoch {epoch} ends")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def runs_of(folder: Path) -> list:
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    return client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])


def steps_of(folder: Path, run_id: str) -> list[int]:
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    return [metric.step for metric in client.get_metric_history(run_id, "validation_accuracy")]


@pytest.fixture(scope="module")
def trained(extracted, run, tmp_path_factory) -> Path:
    """A project after a training that nobody killed."""
    folder = copied(extracted, tmp_path_factory.mktemp("trained") / "project")
    done = run(folder, "earmark", "train", "tc_resnet")
    assert done.returncode == 0, done.stderr
    (folder / "terminal").write_text(done.stdout + done.stderr)
    return folder


@pytest.fixture(scope="module")
def killed(extracted, tmp_path_factory) -> Path:
    """A project whose training was killed once it had told of its first epoch; no test changes it."""
    folder = copied(extracted, tmp_path_factory.mktemp("killed") / "project")
    kill_after_epoch(folder, 1)
    return folder


@pytest.fixture
def stopped(killed, tmp_path) -> Path:
    """A copy of `killed` for one test."""
    return copied(killed, tmp_path / "stopped")


def test_a_killed_training_goes_on_after_its_last_epoch_and_ends_with_the_same_bytes(stopped, earmark, trained):
    kill_after_epoch(stopped, 4)
    assert not (stopped / "models/tc_resnet").exists()
    done = earmark(stopped, "train", "tc_resnet")
    assert done.returncode == 0, done.stderr
    assert re.search(r"resumes after epoch [4-7], where it was stopped", done.stdout)
    assert content_sha256(stopped / "models/tc_resnet") == content_sha256(trained / "models/tc_resnet")
    assert pd.read_csv(stopped / "reports/training/tc_resnet.csv")["epoch"].tolist() == list(range(1, EPOCHS + 1))
    (only,) = runs_of(stopped)
    assert only.info.status == "FINISHED"
    assert steps_of(stopped, only.info.run_id) == list(range(1, EPOCHS + 1))
    assert not list((stopped / "checkpoints").glob("*.npz"))


def test_the_log_file_has_a_line_an_epoch_and_the_terminal_two_in_all(trained):
    first, *lines = (trained / "logs/tc_resnet.log").read_text().splitlines()
    # A slow machine adds a line of progress each minute.
    terminal = [line for line in (trained / "terminal").read_text().splitlines() if " clips, " not in line]
    assert [line.split(": ")[0] for line in terminal] == ["tc_resnet", "train"]
    assert first.endswith(terminal[0].removeprefix("tc_resnet: "))
    assert re.search(rf" {EPOCHS} epochs of \d+ clips with tensorflow [\d.]+ on .*CPU.*; each epoch", first)
    assert len(lines) == EPOCHS
    time, percent = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", r"[\d.]+\u00a0%"
    form = rf"{time} epoch (\d)/{EPOCHS}: loss [\d.]+, accuracy {percent}, validation {percent}, [\d,]+ clips/s"
    assert [re.fullmatch(form, line)[1] for line in lines] == [str(epoch + 1) for epoch in range(EPOCHS)]


def test_a_run_says_what_trained_it(trained):
    (only,) = runs_of(trained)
    assert only.data.tags["cpu"] == environment.describe_cpu()
    assert re.fullmatch(r"tensorflow [\d.]+ on .+", only.data.tags["trained_by"])
    assert only.data.tags["sha256.requirements.lock"] == hashlib.sha256(environment.LOCK.read_bytes()).hexdigest()


@pytest.mark.parametrize("change", ["settings", pytest.param("damage", marks=pytest.mark.slow)])
def test_a_checkpoint_of_another_training_or_a_damaged_one_is_not_gone_on_from(stopped, earmark, change):
    checkpoint = stopped / "checkpoints/tc_resnet.npz"
    if change == "settings":
        change_candidate(stopped, label_smoothing=0.2)
    else:
        checkpoint.write_bytes(checkpoint.read_bytes()[:-200])
    done = earmark(stopped, "train", "tc_resnet")
    assert done.returncode == 0, done.stderr
    assert "resumes" not in done.stdout
    assert f"epoch 1/{EPOCHS}" in (stopped / "logs/tc_resnet.log").read_text()
    (ended,) = [logged_run for logged_run in runs_of(stopped) if logged_run.info.status == "FINISHED"]
    assert steps_of(stopped, ended.info.run_id) == list(range(1, EPOCHS + 1))
    assert ended.data.params["train.label_smoothing"] == ("0.2" if change == "settings" else "0.05")


def accepted(folder: Path, change) -> None:
    """Changes the accepted clips."""
    path = folder / "data/accepted.parquet"
    change(pd.read_parquet(path)).to_parquet(path)


def refusal(earmark, folder: Path) -> str:
    return sentence_of(earmark(folder, "train", "tc_resnet"))


def sentence_of(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    return line


def test_a_label_without_training_clips_is_named(project, earmark):
    def without(clips):
        return clips[(clips["label"] != "yes") | (clips["split"] != "training")]

    accepted(project, without)
    assert "the label 'yes' has no training clips" in refusal(earmark, project)


def test_one_speaker_only_is_said_with_the_way_out(project, earmark):
    accepted(project, lambda clips: clips[clips["split"] == "training"])
    assert re.search(
        r"no validation clips, with \d+ speakers in all; .* split.method random", refusal(earmark, project)
    )


def test_one_label_only_is_refused(project, earmark):
    accepted(project, lambda clips: clips[clips["label"] == "yes"])
    assert "clips of 1 label; expected at least two labels" in refusal(earmark, project)


def test_without_a_gpu_a_training_that_must_have_one_is_refused_with_the_reason(project, earmark):
    done = earmark(project, "train", "tc_resnet", EARMARK_REQUIRE_GPU="1")
    assert re.fullmatch(
        r"earmark: EARMARK_REQUIRE_GPU=1, but tensorflow [\d.]+ finds no GPU: .+;"
        r" expected a GPU, or EARMARK_REQUIRE_GPU=0 to train on .+",
        sentence_of(done),
    )
    assert "EARMARK_REQUIRE_GPU: 'yes' is not 0 or 1" in sentence_of(
        earmark(project, "train", "tc_resnet", EARMARK_REQUIRE_GPU="yes")
    )


def test_a_loss_that_is_no_number_is_a_sentence(project, earmark):
    change_candidate(project, optimizer={"name": "sgd", "learning_rate": 1e30})
    assert "the loss of epoch 1 is nan; expected a finite number: lower optimizer.learning_rate" in refusal(
        earmark, project
    )


def test_another_experiment_has_a_run_of_its_own(stopped, earmark):
    change_params(stopped, {"register": {"name": "another"}})
    done = earmark(stopped, "train", "tc_resnet")
    assert done.returncode == 0, done.stderr
    assert re.search(r"resumes after epoch [1-5]", done.stdout)
    (ended,) = [logged_run for logged_run in runs_of(stopped) if logged_run.info.status == "FINISHED"]
    assert steps_of(stopped, ended.info.run_id) == list(range(1, EPOCHS + 1))


def test_weights_that_are_no_numbers_are_not_kept(project, run):
    """In a process of its own: TensorFlow adds no line to the sentence."""
    change_candidate(project, optimizer={"name": "sgd", "learning_rate": 1e30}, batch_size=100_000, epochs=1)
    error = sentence_of(run(project, "earmark", "train", "tc_resnet"))
    assert "the validation loss of epoch 1 is nan; expected a finite number" in error


def test_a_batch_larger_than_the_data_is_all_of_it_and_said(project, earmark):
    change_candidate(project, batch_size=100_000, epochs=1)
    done = earmark(project, "train", "tc_resnet")
    assert done.returncode == 0, done.stderr
    assert re.search(r"batch_size 100000: one batch holds all \d+ clips", done.stdout)


def test_a_data_set_without_background_noise_is_trained_on_without_and_it_is_said(project, earmark):
    front_end = front_ends.front_end("log_mel", params.load(project / "params.yaml"))
    for split in ("training", "validation"):
        feature_shards.write_noise(project / "data/features/log_mel", split, [], front_end)
    change_candidate(project, epochs=1)
    done = earmark(project, "train", "tc_resnet")
    assert done.returncode == 0, done.stderr
    assert "no background noise as long as a clip: none is mixed in" in done.stdout
