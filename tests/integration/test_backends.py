"""Candidates and training are Keras' own operations: JAX finds what TensorFlow finds. Augmentation runs under both,
though each draws in its own way."""

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from support.training import CANDIDATES

ROUNDING = {"bc_resnet": 1e-2, "stem_resnet": 1e-3}
"""Those that normalise few values, or after a first layer of few weights, magnify it in the weights before."""
BACKENDS = ("tensorflow", "jax")
QUICK = ("tc_resnet",)
QUICK_TO_COMPILE = "--xla_backend_optimization_level=0"

Outcomes = dict[str, dict[str, np.ndarray]]


def outcomes(
    backend: str, candidates: Sequence[str], folder: Path, augmented: str, flags: str = "", **more: str
) -> Outcomes:
    """What one process finds with each candidate."""
    ours = {"KERAS_BACKEND": backend, "XLA_FLAGS": f"{QUICK_TO_COMPILE} {flags}", "AUGMENTED": augmented}
    environment = (
        os.environ
        | {"PYTHONPATH": str(ROOT / "tests"), "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}
        | ours
        | more
    )
    command = [sys.executable, "-m", "support.backend_child", folder, *candidates]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return {candidate: dict(np.load(folder / f"{candidate}.npz")) for candidate in candidates}


@pytest.fixture(scope="module")
def on_one_device(tmp_path_factory) -> Callable[[str], Outcomes]:
    """What a backend finds with the candidates that are quick to compile, in one process for all tests."""
    return functools.cache(lambda backend: outcomes(backend, QUICK, tmp_path_factory.mktemp(backend), "tc_resnet"))


def require_agreement(candidate: str, ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    np.testing.assert_allclose(theirs["predicted"], ours["predicted"], atol=1e-5)
    np.testing.assert_allclose(theirs["trained"], ours["trained"], atol=ROUNDING.get(candidate, 1e-5))
    np.testing.assert_allclose(theirs["then"], ours["then"], atol=1e-4)
    assert np.abs(ours["then"] - ours["predicted"]).max() > 1e-3  # the steps did something


@pytest.mark.parametrize("candidate", QUICK)
def test_jax_predicts_and_trains_as_tensorflow_does(candidate, on_one_device):
    require_agreement(candidate, *(on_one_device(backend)[candidate] for backend in BACKENDS))


@pytest.mark.slow
@pytest.mark.parametrize("candidate", sorted({*CANDIDATES} - {*QUICK}))
def test_jax_predicts_and_trains_as_tensorflow_does_with_what_compiles_for_long(candidate, tmp_path):
    both = [outcomes(backend, [candidate], tmp_path, candidate)[candidate] for backend in BACKENDS]
    require_agreement(candidate, *both)
    assert all(np.isfinite(arrays["augmented"]).all() for arrays in both)


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_augmentation_trains_under_both(backend, on_one_device):
    one = on_one_device(backend)["tc_resnet"]
    assert np.isfinite(one["augmented"]).all()
    assert np.abs(one["augmented"] - one["trained"]).max() > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_two_devices_train_as_one_does(backend, tmp_path):
    """With the candidate that has no batch normalisation, whose statistics are of each device's half of a batch."""
    one = outcomes(backend, ["seed_cnn"], tmp_path, "seed_cnn")["seed_cnn"]
    flags = "--xla_force_host_platform_device_count=2"
    two = outcomes(backend, ["seed_cnn"], tmp_path, "seed_cnn", flags, TWO_DEVICES="true")["seed_cnn"]
    assert two["devices"] == 2
    assert one["devices"] == 1
    np.testing.assert_allclose(two["trained"], one["trained"], atol=1e-5)
    mixing = np.abs(one["mixed"] - one["trained"]).max()
    assert np.abs(two["mixed"] - one["mixed"]).max() < 0.05 * mixing
    np.testing.assert_allclose(two["then"], one["then"], atol=1e-4)
    assert np.abs(one["then"] - one["predicted"]).max() > 1e-2
    assert np.isfinite(two["augmented"]).all()
