"""The stage evaluate, with words that are learnt as unknown, and silence."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from conftest import change_params, copied
from support.html_page import Page

from earmark.stages import evaluate

TIMES = {"latency_ms_p50", "latency_ms_p99"}
SETTINGS = {
    "dataset": {"unknown_labels": ["bird", "cat", "dog"], "silence_fraction": 0.1},
    "train": {"epochs": 3},
}


@pytest.fixture(scope="module")
def evaluated(extracted, tmp_path_factory, earmark) -> Path:
    """A project of eight speakers whose last three stages have run with bird, cat and dog as unknown words."""
    folder = copied(extracted, tmp_path_factory.mktemp("evaluated") / "project")
    change_params(folder, SETTINGS)
    (folder / "data/accepted.parquet").unlink()
    for stage in (("validate",), ("train", "tc_resnet"), ("evaluate",)):
        done = earmark(folder, *stage)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def without_noise(extracted, tmp_path_factory, earmark) -> Path:
    """A project of a data set that has no background noise, before any training."""
    folder = copied(extracted, tmp_path_factory.mktemp("without_noise") / "project")
    assert earmark(folder, "unpack", "recordings").returncode == 0
    shutil.rmtree(folder / "recordings/_background_noise_")
    shutil.rmtree(folder / "data")
    change_params(folder, SETTINGS)
    change_params(folder, {"dataset": {"source": "recordings"}})
    for stage in ("ingest", "validate", "extract"):
        done = earmark(folder, stage)
        assert done.returncode == 0, done.stderr
    return folder


def entry_of(folder: Path) -> dict:
    return json.loads((folder / "reports/metrics.json").read_text())["candidates"]["tc_resnet"]


def table(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / f"reports/{name}.csv", keep_default_na=False)


def test_unknown_words_are_learnt_as_one_label_and_silence_as_another(evaluated):
    labels = json.loads((evaluated / "models/tc_resnet/settings.json").read_text())["labels"]
    assert {"_unknown_", "_silence_", "yes"} <= set(labels)
    assert not {"bird", "cat", "dog"} & set(labels)
    accepted = pd.read_parquet(evaluated / "data/accepted.parquet")
    unknown = accepted[accepted["label"] == "_unknown_"]
    assert set(unknown["recorded_label"]) == {"bird", "cat", "dog"}
    assert (accepted["recorded_label"] == accepted["id"].str.split("/").str[0]).all()


@pytest.mark.parametrize("split", ["validation", "test"])
def test_each_split_has_its_own_silence_of_the_asked_number(evaluated, split):
    predictions = table(evaluated, "predictions")
    of_split = predictions[predictions["split"] == split]
    silences = of_split[of_split["label"] == "_silence_"]
    assert len(silences) == round(0.1 * (len(of_split) - len(silences)))
    assert silences["speaker"].str.startswith("_background_noise_/").all()


@pytest.mark.parametrize(("split", "key"), [("validation", "validation"), ("test", "test")])
def test_the_metrics_are_those_of_the_predictions(evaluated, split, key):
    predictions, scores = table(evaluated, "predictions"), entry_of(evaluated)[key]
    of_split = predictions[predictions["split"] == split]
    assert scores["accuracy"] == pytest.approx((of_split["label"] == of_split["predicted"]).mean())
    for snr in (20, 10, 5, 0):
        right = (of_split["label"] == of_split[f"predicted_at_{snr}_db"]).mean()
        assert scores["accuracy_in_noise"][f"{snr}_db"] == pytest.approx(right)
    labels, slices = table(evaluated, "labels"), table(evaluated, "slices")
    assert labels.loc[labels["split"] == split, "f1"].mean() == pytest.approx(scores["macro_f1"])
    recorded = of_split[of_split["label"] != "_silence_"]
    for name in ("loudness", "length"):
        band = slices[(slices["split"] == split) & (slices["slice"] == name)]
        assert band["clips"].sum() == len(recorded)
    assert 0 <= scores["expected_calibration_error"] <= 1
    rejection = scores["rejection"]
    assert {"threshold", "miss_rate", "false_accept_rate"} < set(rejection)
    low, high = rejection["false_accepts_per_hour_ci95"]
    assert 0 <= low <= rejection["false_accepts_per_hour"] < high
    assert rejection["noise_seconds"] > 1


def test_curves_for_dvc_are_of_the_test_split(evaluated):
    scores = entry_of(evaluated)["test"]
    noise = table(evaluated, "noise/tc_resnet")
    assert noise["noise_level"].tolist() == pytest.approx([0, 0.1, 10**-0.5, 10**-0.25, 1])
    accuracies = dict(zip(noise["snr_db"], noise["accuracy"], strict=True))
    assert accuracies.pop(float("inf")) == scores["accuracy"]
    assert {f"{snr:g}_db": value for snr, value in accuracies.items()} == pytest.approx(scores["accuracy_in_noise"])
    assert table(evaluated, "labels/tc_resnet")["f1"].mean() == pytest.approx(scores["macro_f1"])
    assert table(evaluated, "slices/tc_resnet")["band"].is_unique
    for folder, key in (("calibration", "test"), ("calibration/validation", "validation")):
        assert table(evaluated, f"{folder}/tc_resnet")["clips"].sum() == entry_of(evaluated)[key]["clips"]


def test_each_interval_has_its_bounds_beside_it():
    entry = {"parameters": 3, "test": {"accuracy_ci95": [0.5, 0.75], "rejection": {"per_hour_ci95": [0, 2.5]}}}
    content = evaluate.for_json(entry)
    assert content["parameters"] == 3
    assert content["test"] == {
        "accuracy_ci95": [0.5, 0.75],
        "accuracy_ci95_low": 0.5,
        "accuracy_ci95_high": 0.75,
        "rejection": {"per_hour_ci95": [0, 2.5], "per_hour_ci95_low": 0, "per_hour_ci95_high": 2.5},
    }


def test_the_report_says_how_many_labels_there_are_and_what_validation_found(evaluated):
    page = Page((evaluated / "reports/report.html").read_text(encoding="utf-8"))
    labels = pd.read_parquet(evaluated / "data/accepted.parquet")["label"].nunique()
    assert page.text[page.text.index("labels") + 1] == f"{labels} and _silence_"
    result = json.loads((evaluated / "reports/validation/result.json").read_text())
    assert f"Validation: {result['sentence']}." in page.text
    assert {rule["rule"] for rule in result["rules"]} <= set(page.text)


def test_evaluating_again_gives_the_same_figures_but_for_times(evaluated, tmp_path, run):
    """In another process than the first time."""
    again = copied(evaluated, tmp_path / "again")
    before = entry_of(again)
    done = run(again, "earmark", "evaluate")
    assert done.returncode == 0, done.stderr
    after = entry_of(again)
    assert {key: after[key] for key in after if key not in TIMES} == {
        key: before[key] for key in before if key not in TIMES
    }


def test_silence_without_background_noise_is_refused_in_a_sentence(without_noise, tmp_path, earmark):
    done = earmark(copied(without_noise, tmp_path / "refused"), "train", "tc_resnet")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "dataset.silence_fraction 0.1 needs background noise" in line


def test_without_background_noise_nothing_is_said_of_it(without_noise, tmp_path, earmark):
    silent = copied(without_noise, tmp_path / "silent")
    change_params(silent, {"dataset": {"silence_fraction": 0.0}, "train": {"epochs": 1}})
    for stage in (("train", "tc_resnet"), ("evaluate",)):
        done = earmark(silent, *stage)
        assert done.returncode == 0, done.stderr
    scores = entry_of(silent)["test"]
    assert "accuracy_in_noise" not in scores
    assert set(scores["rejection"]) == {"threshold", "miss_rate", "false_accept_rate"}
    assert table(silent, "noise/tc_resnet").empty


@pytest.mark.parametrize(
    ("dataset", "error"),
    [
        ({"unknown_labels": ["nonsense"]}, "dataset.unknown_labels names 'nonsense'"),
        ({"labels": ["yes", "no", "dog"], "unknown_labels": ["dog"]}, "labels and unknown_labels both name 'dog'"),
    ],
)
def test_unknown_labels_that_no_recording_has_or_that_are_told_apart_are_refused(project, earmark, dataset, error):
    change_params(project, {"dataset": dataset})
    done = earmark(project, "validate")
    assert done.returncode == 2
    assert error in done.stderr


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def overwritten(path: Path) -> None:
    path.write_bytes(b"\xff" * path.stat().st_size)


@pytest.mark.parametrize(
    ("path", "damage", "error"),
    [
        ("data/accepted.parquet", cut, "data/accepted.parquet is damaged; 'dvc checkout --force' restores it"),
        ("data/raw/manifest.parquet", cut, "data/raw/manifest.parquet is damaged; 'dvc checkout --force' restores it"),
        ("data/raw/*.tar", overwritten, "in data/raw is damaged (not a recording"),
        ("reports/training/tc_resnet.csv", overwritten, "tc_resnet.csv is missing or damaged; run 'dvc repro train@"),
        ("reports/training/tc_resnet.csv", lambda path: path.write_text(""), "tc_resnet.csv is missing or damaged"),
        ("reports/training/tc_resnet.csv", lambda path: path.write_text("epoch,seconds\n"), "is missing or damaged"),
        ("reports/validation/result.json", lambda path: path.write_text("[]"), "result.json is missing or damaged"),
        ("reports/validation/result.json", lambda path: path.write_text("{}"), "result.json is missing or damaged"),
    ],
)
def test_what_is_damaged_is_one_sentence(evaluated, tmp_path, earmark, path, damage, error):
    folder = copied(evaluated, tmp_path / "project")
    (damaged,) = folder.glob(path)
    damage(damaged)
    done = earmark(folder, "evaluate")
    assert (done.returncode, done.stdout) == (2, "")
    assert error in done.stderr
    assert done.stderr.count("\n") == 1
