"""A champion that costs one short training."""

import shutil
from pathlib import Path

from conftest import change_params
from mlflow import MlflowClient

from earmark.stores.registry import DESCRIPTION

NAME = "earmark"
# A few steps over a few clips, until it tells most words apart.
QUICK = {
    "epochs": 60,
    "batch_size": 15,
    "optimizer": {"name": "adamw", "learning_rate": 0.004, "decay": "cosine"},
    "augmentation": {"shift_ms": 100.0, "speed_percent": 10.0},
    "network": {"channels": [16, 24, 32, 48], "blocks_per_stage": 1, "kernel_size": 9, "dropout": 0.1},
}


def trained_champion(extracted: Path, run, folder: Path) -> Path:
    """A copy of `extracted` as `folder`, in which tc_resnet was trained and is the registered version 1, champion."""
    shutil.copytree(extracted, folder)
    change_params(folder, {"train": {"tc_resnet": QUICK}})
    done = run(folder, "earmark", "train", "tc_resnet")
    assert done.returncode == 0, done.stderr
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    (training,) = client.search_runs([client.get_experiment_by_name(NAME).experiment_id])
    model_id = training.outputs.model_outputs[-1].model_id
    client.create_registered_model(NAME, description=DESCRIPTION)
    # By its place: MLflow looks up an address models:/… at the process' own server, which is another.
    source = client.get_logged_model(model_id).artifact_location
    made = client.create_model_version(NAME, source, training.info.run_id, model_id=model_id)
    client.set_registered_model_alias(NAME, "champion", made.version)
    return folder
