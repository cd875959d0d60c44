"""The state of a training in one file: written atomically after each epoch, read by the run that resumes it."""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from earmark.io.files import whole_file

_HEAD = "head"


@dataclass(frozen=True)
class Checkpoint:
    """A training after an epoch.

    Attributes:
        identity: hash of everything that determines the result.
        run_id: MLflow's run.
        rows: figures of the finished epochs.
        lists: the arrays that the next epoch needs, by name.
    """

    identity: str
    run_id: str
    rows: tuple[dict[str, float], ...]
    lists: dict[str, list[np.ndarray]]


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Replaces the checkpoint at `path` atomically."""
    head = {"identity": checkpoint.identity, "run_id": checkpoint.run_id, "rows": checkpoint.rows}
    sizes = {name: len(arrays) for name, arrays in checkpoint.lists.items()}
    arrays = {f"{name}.{at}": array for name, values in checkpoint.lists.items() for at, array in enumerate(values)}
    with whole_file(path) as temporary:
        arrays = {_HEAD: np.array(json.dumps(head | {"sizes": sizes}))} | arrays
        np.savez(temporary, **arrays)  # type: ignore[arg-type]  # NumPy's stub takes the arrays for `allow_pickle`


def read(path: Path, identity: str) -> Checkpoint | None:
    """Reads the checkpoint at `path`; None if there is none, it is damaged, or it has another identity."""
    try:
        with np.load(path, allow_pickle=False) as file:
            head = json.loads(str(file[_HEAD]))
            lists = {name: [file[f"{name}.{at}"] for at in range(size)] for name, size in head["sizes"].items()}
        checkpoint = Checkpoint(head["identity"], head["run_id"], tuple(head["rows"]), lists)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return checkpoint if checkpoint.identity == identity else None
