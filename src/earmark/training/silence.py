"""Clips of silence for training: pieces of background noise, at reduced volume."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

from earmark.audio import background_noise
from earmark.features.front_ends import FrontEnd
from earmark.features.keras_backend import from_power, to_power
from earmark.training.batches import Epoch, Features


@dataclass(frozen=True)
class WithSilence:
    """`count` clips, followed by `silences` clips of silence, which are numbered from `count` on.

    A clip of silence is a piece of `noise` at a random position and volume. `noise` is float16 (frames, bins) in the
    stored form of `front_end`, and longer than a clip. With a generator, every epoch has new pieces; without one, every
    epoch has the same.
    """

    clips: Features
    count: int
    silences: int
    noise: np.ndarray
    front_end: FrontEnd

    def epoch(self, generator: np.random.Generator | None = None, repeats: np.ndarray | None = None) -> Epoch:
        """Returns an epoch in an order drawn by `generator`, or without one with the silences last.

        Each clip and each silence comes once, or as often as `repeats` says.
        """
        clips = self.clips.epoch(generator, None if repeats is None else repeats[: self.count])
        random = generator or np.random.default_rng(0)
        numbers = self.count + np.arange(self.silences)
        silent = numbers if repeats is None else np.repeat(numbers, repeats[self.count :])
        is_silence = np.arange(len(clips.order) + len(silent)) >= len(clips.order)
        if generator is not None:
            generator.shuffle(is_silence)
        order = np.empty(len(is_silence), dtype=np.int64)
        order[~is_silence], order[is_silence] = clips.order, silent
        starts = random.integers(len(self.noise) - self.front_end.frames, size=len(silent))
        gains = background_noise.draw_silence_gains(len(silent), random)
        return _Mixed(order, clips.rows, is_silence, lambda at: self._pieces(starts[at], gains[at]))

    def _pieces(self, starts: np.ndarray, gains: np.ndarray) -> np.ndarray:
        frames = self.noise[starts[:, None] + np.arange(self.front_end.frames)].astype(np.float32)
        power = to_power(frames, self.front_end) * np.square(gains)[:, None, None]
        features: np.ndarray = keras.ops.convert_to_numpy(from_power(power, self.front_end))
        return features.astype(np.float16)


@dataclass(frozen=True)
class _Mixed:
    """An epoch with silence at some positions. Clips and silences are both read from first to last."""

    order: np.ndarray
    clips: Callable[[int, int], np.ndarray]
    is_silence: np.ndarray
    silences: Callable[[slice], np.ndarray]

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Returns the features of order[start:stop], float16 (clips, frames, bins)."""
        here = self.is_silence[start:stop]
        silent_before = int(self.is_silence[:start].sum())
        first, count = start - silent_before, int((~here).sum())
        clips = self.clips(first, first + count)
        silences = self.silences(slice(silent_before, silent_before + int(here.sum())))
        rows = np.empty((len(here), *silences.shape[1:]), dtype=np.float16)
        rows[~here], rows[here] = clips, silences
        return rows
