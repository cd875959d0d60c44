"""How fast a candidate trains, against its bare compiled step, and how fast its model answers; printed as JSON.

Run as `python -m tests.benchmarks.speed <candidate> <model folder>` in a project with features. Batches of the training
loop and bare steps on one batch held in memory take turns, and each pair of turns gives one ratio.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from earmark import params
from earmark.models import backend, cost, model_folder
from earmark.training import job

BATCHES, TURNS = 20, 4
"""Batches in a turn; turns of each kind."""


def main(candidate: str, model: Path) -> None:
    """Prints the medians of both rates in clips per second and of their ratio, and the latency of the saved model."""
    loaded = params.load()
    backend.start(loaded.seed)
    from tests.benchmarks.turns import rates

    data = job.read_data(loaded, candidate)
    recipe = job.recipe(data, candidate, loaded.train.candidate(candidate), loaded.seed)
    measured = rates(recipe, data.training, data.validation, BATCHES, TURNS)
    latency_ms = cost.latency(model_folder.load(model)).p50_ms
    print(json.dumps(asdict(measured) | {"latency_ms": latency_ms}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
