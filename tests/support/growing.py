"""What tests of a growing data set stand on: a project whose source is a folder beside it, and what is in data/raw."""

import io
import shutil
import subprocess
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, change_params, made_once
from mlflow import MlflowClient

from earmark import params
from earmark.dataset import shards
from earmark.stages.ingest import ingest


def wav(seed: int, seconds: float = 0.2) -> bytes:
    """A recording that differs from that of every other seed."""
    samples = np.random.default_rng(seed).integers(-9000, 9000, round(16_000 * seconds), dtype=np.int16)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples.tobytes())
    return buffer.getvalue()


def fill(folder: Path, recordings: dict[str, bytes]) -> Path:
    for name, content in recordings.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


RECORDINGS = {
    f"{label}/{speaker}_nohash_0.wav": wav(10 * s + n)
    for n, label in enumerate(("no", "yes"))
    for s, speaker in enumerate(("anouk", "ben", "cid"))
}
NOISE = {"_background_noise_/tap.wav": wav(999, 2.0)}


def run_ingest(**dataset: object) -> str:
    if dataset:
        change_params(Path(), {"dataset": dataset})
    return ingest(params.load())


def manifest() -> pd.DataFrame:
    return shards.read_manifest(Path("data/raw")).set_index("id")


def contents() -> dict[str, bytes]:
    rows = manifest().reset_index()
    return dict(zip(rows["id"], shards.read_recordings(Path("data/raw"), rows), strict=True))


def shard_bytes() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path("data/raw").glob("*.tar")}


def raw_bytes(folder: Path = Path("data/raw")) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory) -> Path:
    """The database of a registry that has nothing, which takes MLflow seconds to make; no test changes it."""

    def make(folder: Path) -> None:
        MlflowClient(f"sqlite:///{folder}/mlflow.db").search_registered_models()

    return made_once(tmp_path_factory, "empty_registry", make) / "mlflow.db"


@pytest.fixture
def forget(earmark, empty_registry) -> Callable[[str], subprocess.CompletedProcess]:
    """`earmark forget` of a speaker, in the working folder, whose registry has nothing."""

    def call(speaker: str) -> subprocess.CompletedProcess:
        if not Path("mlflow.db").exists():
            shutil.copy2(empty_registry, "mlflow.db")
        return earmark(Path(), "forget", "--speaker", speaker)

    return call


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A folder with params.yaml, whose source is the folder `recordings` beside it, as the working folder."""
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy2(ROOT / "params.yaml", folder)
    fill(tmp_path / "recordings", RECORDINGS | NOISE)
    change_params(folder, {"dataset": {"source": "../recordings"}})
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    return folder


@pytest.fixture
def recordings(project) -> Path:
    return project.parent / "recordings"
