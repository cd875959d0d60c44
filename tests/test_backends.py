"""Candidates and training are Keras' own operations: JAX finds what TensorFlow finds. Augmentation runs under both,
though each draws in its own way."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from training import CANDIDATES

CHILD = Path(__file__).with_name("backend_child.py")
ROUNDING = {"bc_resnet": 1e-2, "stem_resnet": 1e-3}
"""Those that normalise few values, or after a first layer of few weights, magnify it in the weights before."""


def found(backend: str, candidate: str, folder: Path, **more: str) -> dict[str, np.ndarray]:
    environment = os.environ | {"KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"} | more
    result = folder / f"{backend}.npz"
    command = [sys.executable, CHILD, candidate, result]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(np.load(result))


@pytest.mark.parametrize("candidate", CANDIDATES)
def test_jax_predicts_and_trains_as_tensorflow_does(candidate, tmp_path):
    ours, theirs = (found(backend, candidate, tmp_path) for backend in ("tensorflow", "jax"))
    np.testing.assert_allclose(theirs["predicted"], ours["predicted"], atol=1e-5)
    np.testing.assert_allclose(theirs["trained"], ours["trained"], atol=ROUNDING.get(candidate, 1e-5))
    np.testing.assert_allclose(theirs["then"], ours["then"], atol=1e-4)
    assert np.abs(ours["then"] - ours["predicted"]).max() > 1e-3  # the steps did something
    assert ours["finite"] and theirs["finite"]


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_two_devices_train_as_one_does(backend, tmp_path):
    """With the candidate that has no batch normalisation, whose statistics are of each device's half of a batch."""
    one = found(backend, "seed_cnn", tmp_path)
    flags = {"TWO_DEVICES": "true", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    two = found(backend, "seed_cnn", tmp_path, **flags)
    assert two["devices"] == 2 and one["devices"] == 1
    np.testing.assert_allclose(two["trained"], one["trained"], atol=1e-5)
    mixing = np.abs(one["mixed"] - one["trained"]).max()
    assert np.abs(two["mixed"] - one["mixed"]).max() < 0.05 * mixing
    np.testing.assert_allclose(two["then"], one["then"], atol=1e-4)
    assert np.abs(one["then"] - one["predicted"]).max() > 1e-2
