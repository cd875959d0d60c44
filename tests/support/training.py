"""What tests of training stand on: all candidates, clips in memory, and nobody who watches."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from earmark import params
from earmark.models import candidates as modules
from earmark.params import yaml
from earmark.training.batches import Examples
from tests.support.shipped import ROOT, candidates

CANDIDATES = sorted(path.stem for path in Path(modules.__file__).parent.glob("[!_]*.py"))
EVERYTHING = {
    "shift_ms": 100.0,
    "speed_percent": 10.0,
    "gain_db": 6.0,
    "noise_probability": 0.5,
    "frequency_mask_bands": 6,
    "time_mask_ms": 150.0,
    "mixup_alpha": 0.2,
}


def with_all_candidates() -> params.Params:
    """params.yaml, with the settings of every candidate."""
    content = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    content["train"]["candidates"] = candidates(*CANDIDATES)
    return params.Params.model_validate(content)


class _InMemory:
    """Clips that are an array, in an order drawn as the feature reader's is."""

    def __init__(self, features: np.ndarray):
        self._features = features

    def epoch(self, generator=None, repeats=None):
        order = np.repeat(np.arange(len(self._features)), 1 if repeats is None else repeats)
        order = order if generator is None else generator.permutation(order)
        return SimpleNamespace(order=order, rows=lambda start, stop: self._features[order[start:stop]])


def in_memory(features: np.ndarray, labels: np.ndarray) -> Examples:
    """Examples that are arrays."""
    return Examples(_InMemory(features), labels)


class Unwatched:
    """Watches nothing."""

    def batch(self, clips, loss):
        pass

    def epoch(self, state):
        pass
