"""`make bench-gpu`, small, on the processor, where TensorFlow and what else it does without cannot be imported."""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import ROOT

from earmark.dataset.splits import speaker_split

RATE_HZ = 16_000


def recording(hz: float) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, 0.3 * np.sin(2 * np.pi * hz / RATE_HZ * np.arange(RATE_HZ)), RATE_HZ, format="WAV")
    return file.getvalue()


def archive(path: Path) -> Path:
    """Two words of 30 speakers, a word that is not learnt, and background noise."""
    names = [f"{word}/{speaker:08x}_nohash_0.wav" for word in ("yes", "no") for speaker in range(30)]
    with tarfile.open(path, "w:gz") as tar:
        for number, name in enumerate([*names, "zero/00000001_nohash_0.wav", "_background_noise_/tap.wav"]):
            content = recording(200 + 10 * number)
            header = tarfile.TarInfo(f"excerpt/{name}")
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return path


@pytest.fixture(scope="module")
def reports(tmp_path_factory) -> tuple[Path, str]:
    """The folder of what the benchmark wrote, and what it printed."""
    folder = tmp_path_factory.mktemp("bench")
    environment = os.environ | {
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "tests.support.gpu_child", folder, archive(folder / "excerpt.tar.gz")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, done.stdout


def row(folder: Path, name: str) -> dict:
    (row,) = json.loads((folder / f"bench-{name}.json").read_text(encoding="utf-8"))
    return row


def test_the_loop_is_measured_against_the_bare_step(reports):
    folder, printed = reports
    speed = row(folder, "gpu")
    assert (speed["name"], speed["unit"]) == ("training loop of tc_resnet", "clips/s")
    assert speed["value"] > 0
    assert speed["ratio"] > 0
    assert float(speed["against"].removeprefix("bare step: ").removesuffix(" clips/s").replace(",", "")) > 0
    assert speed["device"]
    assert f"training on {speed['device']}, JAX {speed['jax']}" in printed


def test_the_time_to_an_accuracy_is_that_of_the_first_epoch_that_has_it(reports):
    time = row(reports[0], "time")
    training = 2 * [speaker_split(f"{speaker:08x}") for speaker in range(30)].count("training")
    assert time["name"] == "time of tc_resnet to 0 % on validation"
    assert time["value"] > 0
    assert time["holds"]
    assert time["against"].endswith(f"after 1 of 2 epochs of {training} clips")
