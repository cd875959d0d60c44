"""What other processes do with a registry: each prints "ready", waits for a line of standard input, and goes on.

Arguments: ADDRESS NAME move VERSION TIMES | killed METHOD VERSION | add RUN CONTENT | train
"""

import json
import os
import signal
import sys

import pandas as pd
from conftest import ROOT
from mlflow import MlflowClient

from earmark import params
from earmark.tracking import runs
from support.mlflow_server import registry_at


class KilledClient(MlflowClient):
    """A client that kills its process instead of calling one of its methods."""

    def __init__(self, address: str, method: str):
        super().__init__(address)
        setattr(self, method, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))


def move(address: str, name: str, version: str, times: str) -> None:
    """Makes `version` champion whenever it is not, and says which of its moves counted."""
    aliases = registry_at(address, name).aliases
    wait_for_start()
    for _ in range(int(times)):
        state = aliases.reconcile()
        if state.champion != version:
            has_moved = aliases.admit("champion", version, state, "a race")
            print(json.dumps([state.champion, version, has_moved]), flush=True)


def killed(address: str, name: str, method: str, version: str) -> None:
    """Makes `version` champion and dies on the way, in place of a call of `method`."""
    aliases = registry_at(address, name, KilledClient(address, method)).aliases
    state = aliases.reconcile()
    wait_for_start()
    aliases.admit("champion", version, state, "never to be finished")


def add(address: str, name: str, run: str, content: str) -> None:
    """Registers a run's model, and says as which version."""
    registry = registry_at(address, name)
    wait_for_start()
    print(registry.add(run, content, {}).number, flush=True)


def train(address: str, name: str) -> None:
    """Begins a training run on the same clips as all others, and says so."""
    os.environ["MLFLOW_TRACKING_URI"] = address
    loaded = params.load(ROOT / "params.yaml")
    clips = pd.DataFrame({"id": [name], "error": [""]})
    wait_for_start()
    with runs.live_run("tc_resnet", loaded, clips, {}):
        print("begun", flush=True)


def wait_for_start() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


def main(place: str, registered_name: str, what: str, *arguments: str) -> None:
    {"move": move, "killed": killed, "add": add, "train": train}[what](place, registered_name, *arguments)
