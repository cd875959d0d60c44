"""A wrong params.yaml is refused in one sentence that names the key, the value and what is expected."""

import copy

import pytest
import yaml
from conftest import ROOT

from earmark import params
from earmark.errors import UserError

SHIPPED = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))

WRONG = [
    ("train.epochs", "ten", ["train.epochs", "'ten'", "integer"]),
    ("train.epochs", 0, ["train.epochs", "0", "greater than or equal to 1"]),
    ("train.candidates", {}, ["train.candidates", "at least 1"]),
    ("train.candidates", ["tc_resnet"], ["train.candidates is ['tc_resnet']", "expected a mapping"]),
    ("train.candidates", {"tc_resnet": None}, ["train.candidates.tc_resnet is None", "expected a mapping"]),
    ("train.epcohs", 3, ["train.epcohs", "not a parameter", "epochs, candidates"]),
    ("train.bc_resnet", {"batch_size": 64}, ["train.bc_resnet", "not a parameter", "epochs, candidates"]),
    ("train.candidates.tc_resnet.rate", 0.1, ["train.candidates.tc_resnet.rate", "not a parameter", "batch_size"]),
    ("train.candidates.tc_resnet.optimizer.rate", 0.1, ["optimizer.rate", "not a parameter", "learning_rate"]),
    ("train.candidates.tc_resnet.optimizer.name", "adam", ["tc_resnet.optimizer.name", "'adam'", "'adamw'"]),
    ("train.candidates.tc_resnet.augmentation.noise_snr_db", {"min": 30, "max": 5}, ["noise_snr_db", "30", "5"]),
    ("train.candidates.tc_resnet.augmentation.speed_percent", 80.0, ["speed_percent", "80.0", "50"]),
    ("train.candidates.tc_resnet.precision", "float16", ["precision", "'float16'", "'mixed_float16'"]),
    ("tune.ranges", {"tc_resnet": {"dropout": {"min": 0, "max": 1}}}, ["tune.ranges.tc_resnet", "'dropout'"]),
    (
        "tune.ranges",
        {"tc_resnet": {"epochs": {"min": 9, "max": 3}}},
        ["tune.ranges.tc_resnet.epochs", "min 9", "max 3"],
    ),
    ("tune.ranges", {"tc_resnet": {"epochs": {"min": 0, "max": 3}}}, ["tune.ranges.tc_resnet", "epochs", "0"]),
    ("tune.ranges", {"tc_resnet": {"epochs": {"low": 0}}}, ["epochs.low", "not a parameter", "min, max, log"]),
    ("tune.ranges", {"tc_resnet": {"epochs": {"values": [1]}}}, ["tune.ranges.tc_resnet.epochs.values", "at least 2"]),
    (
        "tune.ranges",
        {"tc_resnet": {"epochs": {"values": [1, 2], "log": True}}},
        ["epochs.log", "one of values"],
    ),
    ("tune.ranges", {"tc_resnet": {"epochs": {"values": [None, 2]}}}, ["tune.ranges.tc_resnet", "epochs", "empty"]),
    ("tune.ranges", {"tc_resnet": {"label_smoothing": {"min": 0.0, "max": float("inf")}}}, ["label_smoothing", "inf"]),
    ("train.candidates.tc_resnet.optimizer.decay", "none", ["warmup_fraction 0.1", "cosine"]),
    ("train.candidates.tc_resnet.augmentation.gain_db", 1e6, ["gain_db", "60"]),
    ("train.candidates.tc_resnet.balanced_sampling", "yes", ["balanced_sampling", "'yes'"]),
    ("tune.ranges", {"tc_resnet": {"optimizer.name": {"values": ["sgd", "adam"]}}}, ["optimizer.name", "'adam'"]),
    ("dataset.sample_rate", 16000, ["dataset.sample_rate", "not a parameter", "sample_rate_hz"]),
    ("dataset.clip_seconds", float("nan"), ["dataset.clip_seconds", "nan"]),
    ("dataset.labels", ["yes"], ["labels", "'yes'", "at least two"]),
    ("dataset.labels", [False, True], ["dataset.labels.0", "False", "in quotes"]),
    ("dataset.labels", "no", ["dataset.labels", "'no'", "a list"]),
    ("split.method", "luck", ["split.method", "'luck'", "'speaker', 'random' or 'lists'"]),
    ("split.fractions", {"training": 0.7, "validation": 0.7, "test": 0.0}, ["fractions", "add up to 1"]),
    ("features.window_ms", 0.01, ["features.window_ms", "0.16 samples", "whole number"]),
    ("features.window_ms", 60.0, ["features.window_ms", "960", "512"]),
    ("features.log_mel.highest_hz", 9000.0, ["highest_hz", "9000", "8000"]),
    ("register.name", "a/b", ["register.name", "'a/b'"]),
    ("seed", -1, ["seed", "-1"]),
]


@pytest.mark.parametrize(("key", "value", "fragments"), WRONG, ids=lambda value: str(value)[:30])
def test_a_wrong_value_is_named_with_what_is_expected(tmp_path, key, value, fragments):
    content = copy.deepcopy(SHIPPED)
    *sections, last = key.split(".")
    section = content
    for name in sections:
        section = section[name]
    section[last] = value
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(UserError) as error:
        params.load(path)
    assert all(fragment in str(error.value) for fragment in fragments), str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "a: [", "just text", "\x00"])
def test_what_is_no_mapping_is_refused(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"params\.yaml"):
        params.load(path)


def test_the_shipped_file_has_the_tutorials_sizes():
    loaded = params.load(ROOT / "params.yaml")
    assert (loaded.window_samples, loaded.stride_samples, loaded.dataset.clip_samples) == (480, 160, 16000)


def test_epochs_of_its_own_come_before_those_of_all():
    own = SHIPPED["train"]["candidates"]["tc_resnet"] | {"epochs": 10}
    train = loaded(train=SHIPPED["train"] | {"candidates": {"own": own, **SHIPPED["train"]["candidates"]}}).train
    assert train.candidate("tc_resnet").epochs == train.epochs != 10
    assert train.candidate("own").epochs == 10


def test_a_candidate_that_is_not_trained_is_refused_and_its_ranges_wait():
    train = {"epochs": 3, "candidates": {"tc_resnet": SHIPPED["train"]["candidates"]["tc_resnet"]}}
    without = loaded(train=train)
    assert "stem_resnet" in without.tune.ranges
    with pytest.raises(UserError) as error:
        without.train.candidate("stem_resnet")
    assert str(error.value) == "params.yaml: train.candidates: 'stem_resnet' has no settings; expected one of tc_resnet"


def test_the_order_of_candidates_in_the_file_changes_nothing():
    turned = dict(reversed(SHIPPED["train"]["candidates"].items()))
    assert list(loaded(train=SHIPPED["train"] | {"candidates": turned}).train.candidates) == list(
        loaded().train.candidates
    )


def loaded(**sections: object) -> params.Params:
    return params.Params.model_validate(SHIPPED | sections)
