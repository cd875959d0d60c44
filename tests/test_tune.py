"""`earmark tune`: a search that is killed and goes on, is ended by its time, and ends in a patch."""

import re
import signal
import subprocess

import mlflow
import pytest
from conftest import BIN, change_params

from earmark import params
from earmark.params.training import value_at

RANGES = {
    "optimizer.learning_rate": {"min": 0.0005, "max": 0.05, "log": True},
    "augmentation.frequency_mask_bands": {"min": 0, "max": 10},
    "network.channels": {"values": [[32, 48, 64, 96], [16, 24, 32, 48]]},
}


@pytest.fixture
def searched(project):
    """A checkout whose search has four short trials."""
    change_params(project, {"train": {"epochs": 2}})
    tune = {"minutes": 60.0, "trials": 4, "ranges": {"tc_resnet": RANGES}}
    change_params(project, {"tune": tune})
    subprocess.run(["git", "commit", "-qam", "ranges"], cwd=project, check=True)
    return project


def tried(said: str) -> list[int]:
    return [int(number) for number in re.findall(r"^trial (\d+): ", said, re.MULTILINE)]


def children(folder, parent: str) -> list:
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiments = [each.experiment_id for each in client.search_experiments()]
    return client.search_runs(experiments, f"tags.`mlflow.parentRunId` = '{parent}'")


def parents(folder) -> list[str]:
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiments = [each.experiment_id for each in client.search_experiments()]
    return [each.info.run_id for each in client.search_runs(experiments, "tags.tuning = 'true'")]


def test_a_killed_search_goes_on_and_its_patch_sets_what_was_best(searched, run):
    process = subprocess.Popen(
        [BIN / "earmark", "tune", "tc_resnet"], cwd=searched, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    first = process.stdout.readline() + process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(tried(first)) == 2, first
    done = run(searched, "earmark", "tune", "tc_resnet")
    assert done.returncode == 0, done.stderr
    assert len(tried(first + done.stdout)) == 4
    (parent,) = parents(searched)
    assert len([each for each in children(searched, parent) if each.info.status == "FINISHED"]) >= 4

    before = params.load(searched / "params.yaml").train.candidate("tc_resnet")
    values = {line for line in (first + done.stdout).splitlines() if line.startswith("trial ")}
    best = max(float(found[1]) for line in values if (found := re.search(r": ([\d.]+)%", line)))
    assert f"reached {best:.2f}% on validation" in done.stdout
    if "these are the settings in params.yaml" in done.stdout:
        assert not (searched / "tuning/tc_resnet.patch").exists()
    else:
        subprocess.run(["git", "apply", "tuning/tc_resnet.patch"], cwd=searched, check=True)
        after = params.load(searched / "params.yaml").train.candidate("tc_resnet")
        assert any(value_at(after, key) != value_at(before, key) for key in RANGES)
        changed = subprocess.run(["git", "diff", "--numstat"], cwd=searched, capture_output=True, text=True).stdout
        assert changed.endswith("params.yaml\n") and changed.count("\n") == 1

    again = run(searched, "earmark", "tune", "tc_resnet")
    assert tried(again.stdout) == []
    assert "best of 4 trials" in again.stdout


def test_the_first_trial_is_of_the_settings_in_params_yaml(searched, run):
    change_params(searched, {"tune": {"trials": 1}})
    done = run(searched, "earmark", "tune", "tc_resnet")
    assert "learning_rate 0.004, augmentation.frequency_mask_bands 6" in done.stdout
    assert "these are the settings in params.yaml" in done.stdout


def test_the_time_is_kept_and_the_trial_that_it_ended_goes_on(searched, run):
    change_params(searched, {"tune": {"minutes": 0.001, "trials": 1}})
    done = run(searched, "earmark", "tune", "tc_resnet")
    assert done.returncode == 0, done.stderr
    assert "no trial of tc_resnet came to its end" in done.stdout
    (parent,) = parents(searched)
    change_params(searched, {"tune": {"minutes": 60.0}})
    again = run(searched, "earmark", "tune", "tc_resnet")
    assert "learning_rate 0.004, augmentation.frequency_mask_bands 6" in again.stdout  # from its checkpoint, to its end
    (child,) = children(searched, parent)
    assert child.info.status == "FINISHED"


def test_values_that_cannot_be_trained_end_their_trial_and_not_the_search(searched, run):
    ranges = {"optimizer.learning_rate": {"values": [0.004, 1e30]}}
    change_params(searched, {"tune": {"trials": 2, "ranges": {"tc_resnet": ranges}}})
    for seed in range(2, 9):
        change_params(searched, {"seed": seed})
        done = run(searched, "earmark", "tune", "tc_resnet")
        assert done.returncode == 0, done.stderr
        assert tried(done.stdout) == [0, 1]
        if "allowed is a number" in done.stdout:
            break
    assert re.search(r"^trial 1: the .*loss of epoch \d is nan; allowed is a number", done.stdout, re.MULTILINE)
    assert "best of 2 trials, 0, reached" in done.stdout


def test_a_candidate_without_ranges_is_refused(searched, run):
    done = run(searched, "earmark", "tune", "seed_cnn")
    assert done.returncode == 2
    assert "tune.ranges has none of 'seed_cnn'; it has those of tc_resnet" in done.stderr
