"""`earmark tune`: a search that is killed and goes on, is ended by its time, and ends in a patch."""

import re
import signal
import subprocess
import time

import mlflow
import pytest
from conftest import BIN, ROOT, candidates, change_params

from earmark import params
from earmark.commands.tune import patch_of
from earmark.errors import UserError
from earmark.params.training import Choice, Span, value_at
from earmark.training.search import STARTUP_TRIALS, Study, outcome

EPOCHS = 8

RANGES = {
    "optimizer.learning_rate": {"min": 0.0005, "max": 0.05, "log": True},
    "augmentation.frequency_mask_bands": {"min": 0, "max": 10},
    "network.channels": {"values": [[32, 48, 64, 96], [16, 24, 32, 48]]},
}


@pytest.fixture
def searched(project):
    """A checkout whose search has four short trials."""
    change_params(project, {"train": {"epochs": 2}})
    tune = {"trials": 4, "ranges": {"tc_resnet": RANGES}}
    change_params(project, {"tune": tune})
    subprocess.run(["git", "commit", "-qam", "ranges"], cwd=project, check=True)
    return project


def tried(output: str) -> list[int]:
    return [int(number) for number in re.findall(r"^trial (\d+): ", output, re.MULTILINE)]


def children(folder, parent: str) -> list:
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return client.search_runs(experiments, f"tags.`mlflow.parentRunId` = '{parent}'")


def parents(folder) -> list[str]:
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return [logged_run.info.run_id for logged_run in client.search_runs(experiments, "tags.tuning = 'true'")]


@pytest.mark.slow
def test_a_killed_search_goes_on_and_its_patch_sets_what_was_best(searched, earmark):
    process = subprocess.Popen(
        [BIN / "earmark", "tune", "tc_resnet"], cwd=searched, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    first = ""
    for line in process.stdout:
        first += line
        if len(tried(first)) == 2:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(tried(first)) == 2, first
    done = earmark(searched, "tune", "tc_resnet")
    assert done.returncode == 0, done.stderr
    assert len(tried(first + done.stdout)) == 4
    (parent,) = parents(searched)
    assert len([logged_run for logged_run in children(searched, parent) if logged_run.info.status == "FINISHED"]) >= 4

    before = params.load(searched / "params.yaml").train.candidate("tc_resnet")
    values = {line for line in (first + done.stdout).splitlines() if line.startswith("trial ")}
    best = max(float(match[1]) for line in values if (match := re.search(r": ([\d.]+)\s%", line)))
    assert f"reached {best:.2f}\u00a0% on validation" in done.stdout
    if "these are the settings in params.yaml" in done.stdout:
        assert not (searched / "tuning/tc_resnet.patch").exists()
    else:
        subprocess.run(["git", "apply", "tuning/tc_resnet.patch"], cwd=searched, check=True)
        after = params.load(searched / "params.yaml").train.candidate("tc_resnet")
        assert any(value_at(after, key) != value_at(before, key) for key in RANGES)
        changed = subprocess.run(["git", "diff", "--numstat"], cwd=searched, capture_output=True, text=True).stdout
        assert changed.endswith("params.yaml\n")
        assert changed.count("\n") == 1
        # From its settings on there would be another search.
        subprocess.run(["git", "apply", "--reverse", "tuning/tc_resnet.patch"], cwd=searched, check=True)

    again = earmark(searched, "tune", "tc_resnet")
    assert tried(again.stdout) == []
    assert "best of 4 trials" in again.stdout


def test_the_first_trial_is_of_the_settings_in_params_yaml(searched, earmark):
    change_params(searched, {"tune": {"trials": 1}})
    done = earmark(searched, "tune", "tc_resnet")
    assert "learning_rate 0.004, augmentation.frequency_mask_bands 6" in done.stdout
    assert "these are the settings in params.yaml" in done.stdout


def test_the_time_is_kept_and_the_trial_that_it_ended_goes_on(searched, earmark):
    change_params(searched, {"tune": {"trials": 1}})
    refused = earmark(searched, "tune", "tc_resnet", EARMARK_REQUIRE_GPU="1")
    assert refused.returncode == 2
    assert "finds no GPU" in refused.stderr
    done = earmark(searched, "tune", "tc_resnet", "--minutes", "0.001")
    assert done.returncode == 0, done.stderr
    assert "no trial of tc_resnet was finished in time" in done.stdout
    (parent,) = parents(searched)
    client = mlflow.MlflowClient(f"sqlite:///{searched}/mlflow.db")
    tags = client.get_run(parent).data.tags
    ours = {name: tags[name] for name in ("candidate", "search_checkout")}
    killed = client.create_run(client.get_run(parent).info.experiment_id, tags=ours).info.run_id  # as a kill leaves it
    again = earmark(searched, "tune", "tc_resnet")
    assert "learning_rate 0.004, augmentation.frequency_mask_bands 6" in again.stdout  # from its checkpoint, to its end
    (child,) = children(searched, parent)
    assert child.info.status == "FINISHED"
    assert client.get_run(killed).info.status == "KILLED"


def test_values_that_cannot_be_trained_end_their_trial_and_not_the_search(searched, earmark):
    ranges = {"optimizer.learning_rate": {"values": [0.004, *(10.0**power for power in range(30, 50))]}}
    change_params(searched, {"tune": {"trials": 2, "ranges": {"tc_resnet": ranges}}})
    done = earmark(searched, "tune", "tc_resnet")
    assert done.returncode == 0, done.stderr
    assert tried(done.stdout) == [0, 1]
    assert re.search(r"^trial 1: the .*loss of epoch \d is nan; expected a finite number", done.stdout, re.MULTILINE)
    assert "best of 2 trials, 0, reached" in done.stdout


def test_a_candidate_without_ranges_is_refused(searched, earmark):
    change_params(searched, {"train": {"candidates": candidates("seed_cnn", "tc_resnet")}})
    done = earmark(searched, "tune", "seed_cnn")
    assert done.returncode == 2
    assert "tune.ranges has no candidate 'seed_cnn'; expected one of tc_resnet" in done.stderr


RATE = "optimizer.learning_rate"


def one_more(search: Study, objective) -> str:
    """Runs one more trial; how it ended."""
    ended = []
    search.run(objective, len(search.finished) + 1, 60, ended.append)
    return outcome(*ended)


def study(folder, ranges=None, present=None, seed=1) -> Study:
    """A search that nothing is trained for."""
    ranges = ranges or {RATE: Span(min=0.001, max=0.1)}
    return Study(folder / "study.db", "study", ranges, present or {RATE: 0.01}, EPOCHS, seed)


def test_a_trial_below_the_median_of_the_others_is_ended(tmp_path):
    levels = [0.9] * STARTUP_TRIALS + [0.1, 0.95]
    trained = []

    def objective(trial):
        level = levels[trial.number]
        for epoch in range(1, EPOCHS + 1):
            trained.append((trial.number, epoch))
            trial.report(level * epoch / EPOCHS, epoch)
            trial.raise_if_pruned()
        return level

    ended = [one_more(study(tmp_path), objective) for _ in levels]
    assert ended == ["90.00\u00a0%"] * STARTUP_TRIALS + ["pruned", "95.00\u00a0%"]
    last = max(epoch for number, epoch in trained if number == STARTUP_TRIALS)
    assert 1 < last < EPOCHS
    assert len(study(tmp_path).finished) == len(levels)
    assert study(tmp_path).best.number == len(levels) - 1


def test_a_trial_that_was_broken_off_is_begun_again_with_the_values_that_it_had(tmp_path):
    trained = []

    def objective(trial):
        trained.append(trial.values)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return 0.5

    assert one_more(study(tmp_path), objective) == "50.00\u00a0%"
    with pytest.raises(KeyboardInterrupt):
        one_more(study(tmp_path), objective)
    study(tmp_path)  # which is killed before it repeats anything
    one_more(study(tmp_path), objective)
    assert trained[0] == {RATE: 0.01}
    assert trained[1] == trained[2] != trained[0]
    assert len(study(tmp_path).finished) == 2


def test_an_interrupted_trial_is_repeated_once_however_often_the_search_is_opened(tmp_path):
    trained = []

    def objective(trial):
        trained.append(trial.values[RATE])
        if len(trained) in (2, 3):
            raise KeyboardInterrupt
        return 0.5

    one_more(study(tmp_path), objective)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            one_more(study(tmp_path), objective)
    study(tmp_path).run(objective, 4, 60, lambda _: None)
    assert trained[1] == trained[2] == trained[3]
    assert len(set(trained)) == 4
    assert [trial.values[0] for trial in study(tmp_path).finished] == [0.5] * 4


def test_the_time_limit_ends_the_search_within_a_trial_that_is_then_repeated(tmp_path):
    trained, ended = [], []

    def objective(trial):
        trained.append(trial.values[RATE])
        while len(trained) == 2:
            time.sleep(0.01)
            trial.raise_if_time_is_up()
        return 0.5

    study(tmp_path).run(objective, 5, 2, ended.append)
    assert [trial.number for trial in ended] == [0]
    assert len(trained) == 2
    study(tmp_path).run(objective, 5, 60, ended.append)
    assert len(ended) == 5
    assert trained[2] == trained[1]
    study(tmp_path).run(objective, 9, 0, ended.append)
    study(tmp_path).run(objective, 5, 60, ended.append)
    assert len(ended) == 5


def test_what_hinders_any_trial_ends_the_search_and_is_no_trial(tmp_path):
    def full_disk(trial):
        raise UserError("no space left")

    with pytest.raises(UserError, match="no space left"):
        one_more(study(tmp_path), full_disk)
    assert study(tmp_path).finished == []
    assert one_more(study(tmp_path), lambda trial: trial.values[RATE]) == "1.00\u00a0%"


def test_a_present_value_that_is_written_otherwise_is_the_first_to_be_tried(tmp_path):
    ranges = {"label_smoothing": Choice(values=(0, 0.05)), "augmentation.frequency_mask_bands": Span(min=0, max=10)}
    search = study(tmp_path, ranges, {"label_smoothing": 0.0, "augmentation.frequency_mask_bands": 6}, seed=2**32 - 1)
    trained = []
    one_more(search, lambda trial: trained.append(trial.values) or 0.5)
    one_more(search, lambda trial: 0.4)
    assert trained == [{"label_smoothing": 0, "augmentation.frequency_mask_bands": 6}]
    assert not Span(min=0, max=10).contains(0.3)


def test_a_file_that_is_no_search_is_named(tmp_path):
    (tmp_path / "study.db").write_bytes(b"no database" * 1000)
    with pytest.raises(UserError, match=r"study\.db is not a file of 'earmark tune'; remove it"):
        study(tmp_path)


BLOCKS = """train:
  epochs: 3
  candidates:
    gru:
      batch_size: 64   # a comment
      network:
        channels:
          - 32
          - 48

        units: 3  # another
"""


def applied(text: str, patch: str, folder) -> str:
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    subprocess.run(["git", "apply", "-"], cwd=folder, input=patch, text=True, check=True)
    return (folder / "params.yaml").read_text(encoding="utf-8")


def test_the_patch_changes_the_lines_of_its_values_only(tmp_path):
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    values = {"label_smoothing": 0.1, "network.dropout": 0.25, "augmentation.noise_probability": 0.123}
    after = applied(text, patch_of(text, "tc_resnet", values), tmp_path)
    changed = [(old, new) for old, new in zip(text.splitlines(), after.splitlines(), strict=True) if old != new]
    assert [new.strip().split(": ")[0] for _, new in changed] == ["label_smoothing", "noise_probability", "network"]
    settings = params.load(tmp_path / "params.yaml").train.candidate("tc_resnet")
    assert {key: value_at(settings, key) for key in values} == values


def test_the_patch_keeps_indentation_and_comments_and_adds_what_is_not_there(tmp_path):
    values = {"network.channels": [16, 24], "network.units": 5, "network.cells": 2, "augmentation.gain_db": 6.0}
    assert applied(BLOCKS, patch_of(BLOCKS, "gru", values), tmp_path) == (
        """train:
  epochs: 3
  candidates:
    gru:
      augmentation: {"gain_db": 6.0}
      batch_size: 64   # a comment
      network:
        cells: 2
        channels: [16, 24]

        units: 5  # another
"""
    )


def test_a_list_that_stands_no_deeper_than_its_key_is_replaced_too(tmp_path):
    """As YAML's own writers have it."""
    head = "train:\n  candidates:\n    gru:\n      network:\n"
    text = f"{head}        channels:\n        - 32\n        - 48\n        units: 3\n"
    after = applied(text, patch_of(text, "gru", {"network.channels": [16, 24]}), tmp_path)
    assert after == f"{head}        channels: [16, 24]\n        units: 3\n"


def test_a_file_in_which_candidates_share_a_value_is_not_patched():
    text = "train:\n  candidates:\n    a: {rate: &rate 1}\n    b: {rate: *rate}\n"
    with pytest.raises(UserError, match=r"has YAML aliases and cannot be patched; .* by hand: \{'rate': 2\}"):
        patch_of(text, "b", {"rate": 2})
