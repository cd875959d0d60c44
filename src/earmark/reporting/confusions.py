"""The confusion matrix of one candidate on one split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Confusions:
    """How often each true label was predicted as each label.

    labels: (L,) distinct names, sorted; counts: (L, L) int64 clips, rows true, columns predicted, in that order.
    """

    labels: Sequence[str]
    counts: npt.NDArray[np.int64]

    @property
    def shares(self) -> npt.NDArray[np.float64]:
        """(L, L) float64 in [0, 1]: each row's counts over its sum; a row without clips is all zero."""
        clips = self.counts.sum(axis=1, keepdims=True)
        shares: npt.NDArray[np.float64] = self.counts / np.maximum(clips, 1)
        return shares

    @property
    def errors(self) -> list[tuple[str, str, int, float]]:
        """(true label, predicted label, clips, share of the true label in [0, 1]) of each error, most clips first."""
        wrong = self.counts - np.diag(np.diag(self.counts))
        rows, columns = np.nonzero(wrong)
        order = np.lexsort((columns, rows, -wrong[rows, columns]))
        cells = [(int(rows[i]), int(columns[i])) for i in order]
        shares = self.shares
        return [(self.labels[r], self.labels[c], int(wrong[r, c]), float(shares[r, c])) for r, c in cells]


def count_confusions(predictions: pd.DataFrame) -> Confusions:
    """Count the predictions by ``label`` and ``predicted``, over every label that occurs in either column."""
    import pandas as pd

    table = pd.crosstab(predictions["label"].astype(str), predictions["predicted"].astype(str))
    labels = sorted(table.index.union(table.columns))
    counts = table.reindex(index=labels, columns=labels, fill_value=0).to_numpy(dtype=np.int64)
    return Confusions(labels, counts)
