"""Where a training stands, in one file: written whole after each epoch, read by the run that goes on from it."""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from earmark.io.files import whole_file

_HEAD = "head"


@dataclass(frozen=True)
class Checkpoint:
    """`identity` is of all that decides the result, `run_id` MLflow's, `rows` are of the epochs that are done; `lists`
    are the arrays that the next epoch needs, by name."""

    identity: str
    run_id: str
    rows: tuple[dict, ...]
    lists: dict[str, list[np.ndarray]]


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Puts `checkpoint` in the place of the one before, whole or not at all."""
    head = {"identity": checkpoint.identity, "run_id": checkpoint.run_id, "rows": checkpoint.rows}
    sizes = {name: len(arrays) for name, arrays in checkpoint.lists.items()}
    arrays = {f"{name}.{at}": array for name, each in checkpoint.lists.items() for at, array in enumerate(each)}
    with whole_file(path) as temporary:
        np.savez(temporary, **{_HEAD: np.array(json.dumps(head | {"sizes": sizes}))}, **arrays)


def read(path: Path, identity: str) -> Checkpoint | None:
    """What `write` wrote; None where there is nothing, it is damaged, or of another identity."""
    try:
        with np.load(path, allow_pickle=False) as file:
            head = json.loads(str(file[_HEAD]))
            lists = {name: [file[f"{name}.{at}"] for at in range(size)] for name, size in head["sizes"].items()}
        found = Checkpoint(head["identity"], head["run_id"], tuple(head["rows"]), lists)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return found if found.identity == identity else None
