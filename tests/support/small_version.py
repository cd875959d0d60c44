"""A registered version whose stages a shell script makes in no time: for what is told of it, not for what it can."""

import contextlib
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import yaml
from conftest import ROOT, made_once

from earmark import params
from earmark.io import hashing
from earmark.provenance import environment, store, version_record
from support.dvc_remote import set_remote

METRICS = {"candidates": {"tc_resnet": {"test": {"accuracy": 0.5}}}}
# What the environment has as OTHER makes all outputs others; a stage may hang, or fail.
SCRIPT = f"""
echo "$1 $2 begins" >&2
[ "$1" != "$HANGS" ] || sleep 600
[ "$1" != "$FAILS" ] || exit 3
mkdir -p data/features models/$2 reports
case $1 in
validate) cp src/accepted.parquet data && printf "$OTHER" >> data/accepted.parquet ;;
extract) printf "features$OTHER" > data/features/a.npy ;;
train) printf "weights$OTHER" > models/$2/model.keras ;;
evaluate) printf '%s' '{json.dumps(METRICS)}' | sed "s/0.5/0.5$OTHER/" > reports/metrics.json ;;
esac
"""


def _stage(name: str, *outputs: str) -> dict:
    return {"cmd": f"sh src/stage.sh {name}", "outs": [{path: {"persist": True}} for path in outputs]}


STAGES = {
    "ingest": _stage("ingest", "data/raw"),
    "validate": _stage("validate", "data/accepted.parquet"),
    "extract": _stage("extract", "data/features"),
    "train": {"foreach": ["tc_resnet", "other"], "do": _stage("train ${item}", "models/${item}")},
    "evaluate": _stage("evaluate"),
}


def small_version(tmp_path_factory, run) -> Path:
    """A checkout with such a version, whose outputs DVC has in its cache, and in the remote `storage`; tests change
    copies of it (`copied`)."""
    return made_once(tmp_path_factory, "small_version", lambda folder: _make(folder, run))


def _make(folder: Path, run) -> None:
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLFLOW_TRACKING_URI", database(folder))  # which set_tracking_uri changes
        shutil.copy(ROOT / "params.yaml", "params.yaml")
        Path("dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}))
        Path(".gitignore").write_text("/mlflow.db\n/mlruns\n/storage\n")
        for path in ("src", "data/raw", "reports/validation"):
            Path(path).mkdir(parents=True)
        for path in ("data/raw/manifest.parquet", "data/raw/a.tar"):
            Path(path).write_text(path)
        script = Path("src/stage.sh")
        script.write_text(SCRIPT)
        pd.DataFrame({"speaker": ["anouk", "ben"]}).to_parquet("src/accepted.parquet")
        Path("reports/validation/result.json").write_text(json.dumps({"passed": True, "sentence": "2 accepted"}))
        for command in (["init", "-q"], ["config", "user.name", "t"], ["config", "user.email", "t@example.invalid"]):
            subprocess.run(["git", *command], check=True)
        assert run(folder, "dvc", "init", "-q").returncode == 0
        set_remote(url="../storage")
        for command in ("repro", "push"):
            done = run(folder, "dvc", command, "-q")
            assert done.returncode == 0, done.stdout + done.stderr
        script.unlink()
        for command in (["add", "-A"], ["commit", "-qm", "made"]):
            subprocess.run(["git", *command], check=True)
        script.write_text(SCRIPT)  # which the code beyond the commit has: without it no stage runs
        _register(folder)


def _register(folder: Path) -> None:
    mlflow.set_tracking_uri(database(folder))
    client = mlflow.MlflowClient()
    provenance = version_record.gather("tc_resnet", params.load())
    mlflow.set_experiment("earmark")
    with mlflow.start_run() as started:
        machine = {"cpu": environment.describe_cpu(), "trained_by": "nothing", **environment.requirements_tag()}
        mlflow.set_tags({"git_commit": provenance.record["git_commit"], **machine})
        mlflow.log_artifacts("models/tc_resnet", "model/artifacts/tc_resnet")
        provenance_tags = store.save(started.info.run_id, provenance)
    content = hashing.content_sha256(Path("models/tc_resnet"))
    client.create_registered_model("earmark")
    source = f"{started.info.artifact_uri}/model"
    tags = {**provenance_tags, "candidate": "tc_resnet", "content_sha256": content}
    client.create_model_version("earmark", source, started.info.run_id, tags=tags)
    client.set_registered_model_alias("earmark", "champion", "1")


def database(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"


def registry(folder: Path) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(database(folder))


def run_id(folder: Path) -> str:
    """The run of the version."""
    return registry(folder).get_model_version("earmark", "1").run_id


def artifact(name: str) -> Path:
    """A file that was kept with the version, in the working directory's registry."""
    return next(Path("mlruns").rglob(f"provenance/*/{name}"))


def recorded_otherwise(folder: Path, facts: dict[str, str]) -> None:
    """As if the version had been registered with these facts in its record."""
    file = artifact(store.RECORD)
    content = json.dumps(json.loads(file.read_text()) | facts)
    file.write_text(content)
    kept = file.parent.rename(file.parent.with_name(hashlib.sha256(content.encode()).hexdigest()))
    registry(folder).set_model_version_tag("earmark", "1", store.FOLDER, f"{store.FOLDER}/{kept.name}")
