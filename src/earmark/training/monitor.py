"""Follows a training for `train` and `tune`: after each epoch, saves a checkpoint, logs to MLflow and calls back."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from earmark.training import checkpoints, job

if TYPE_CHECKING:
    from earmark.tracking.runs import LiveRun
    from earmark.training.fitting import State


class TrainingMonitor:
    """Saves and logs every epoch of one training; `fitting.fit` calls it.

    `on_batch` gets the clips of a batch and the epoch's loss so far; `on_epoch` gets the state after an epoch, and may
    raise an exception to end the training.
    """

    def __init__(
        self,
        checkpoint: Path,
        identity: str,
        run: "LiveRun",
        on_epoch: Callable[["State"], None],
        on_batch: Callable[[int, float], None] | None = None,
    ):
        self._checkpoint, self._identity, self._run = checkpoint, identity, run
        self._on_epoch, self._on_batch = on_epoch, on_batch

    def batch(self, clips: int, loss: float) -> None:
        """Passes a batch on to the owner."""
        if self._on_batch:
            self._on_batch(clips, loss)

    def epoch(self, state: "State") -> None:
        """Writes the checkpoint first: a training that is killed after it reports no epoch twice."""
        checkpoints.write(self._checkpoint, job.checkpoint_of(state, self._identity, self._run.run_id))
        self._run.log_epochs(state.rows)
        self._on_epoch(state)
