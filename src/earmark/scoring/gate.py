"""Whether a new model takes the champion's place. Pure."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Verdict:
    """`promoted`, and why, as one sentence."""

    promoted: bool
    reason: str

    @property
    def alias(self) -> str:
        """The alias that the version gets."""
        return "champion" if self.promoted else "challenger"


FIRST = Verdict(True, "no champion reigns yet")


def verdict(labels: np.ndarray, of_champion: np.ndarray, of_challenger: np.ndarray) -> Verdict:
    """Compares the labels that champion and challenger gave to the same clips; promoted where more are right."""
    champion, challenger = int((labels == of_champion).sum()), int((labels == of_challenger).sum())
    reason = f"{challenger} of {len(labels)} clips right, the champion {champion} of the same"
    return Verdict(challenger > champion, reason)
