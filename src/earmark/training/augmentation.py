"""Augments log features in the graph, in training only: shift, speed, gain, background noise, masks, mixup."""

import math

import keras
import numpy as np
from keras import ops

from earmark.features.front_ends import FrontEnd
from earmark.features.keras_backend import from_power, to_power
from earmark.params.training import Augmentation as Settings

DECIBEL = math.log(10) / 10
"""One decibel of power as a natural logarithm."""


class Augmentation(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Augments log features (clips, frames, bins); returns float32 of the same shape. Outside training, only converts.

    Features and `noise`, (frames, bins), are in the stored form of `front_end`. Noise that is no longer than a clip is
    not mixed in. The powers of speech and noise add up in expectation, since the two are not correlated; that is why
    stored features are log powers.
    """

    def __init__(self, settings: Settings, front_end: FrontEnd, noise: np.ndarray, seed: int):
        super().__init__(name="augmentation", dtype="float32")
        self._settings, self._front_end = settings, front_end
        stride_ms = 1000 * front_end.stride_samples / front_end.sample_rate_hz
        self._shift_frames = round(settings.shift_ms / stride_ms)
        self._mask_frames = round(settings.time_mask_ms / stride_ms)
        self._seeds = keras.random.SeedGenerator(seed)
        self._noise = None
        if settings.noise_probability > 0 and len(noise) > front_end.frames:
            self._noise = to_power(ops.convert_to_tensor(noise.astype(np.float32)), front_end)

    def call(self, features: "keras.KerasTensor", training: bool = False) -> "keras.KerasTensor":
        """Applies what the settings enable."""
        if not training:
            return features
        if self._changes_power:
            power = self._moved(to_power(features, self._front_end))
            power = self._with_noise(self._with_gain(power))
            features = from_power(power, self._front_end)
        features = self._masked(features, axis=1, widest=self._mask_frames)
        return self._masked(features, axis=2, widest=self._settings.frequency_mask_bands)

    @property
    def _changes_power(self) -> bool:
        settings = self._settings
        return bool(self._shift_frames or settings.speed_percent or settings.gain_db or self._noise is not None)

    def _uniform(self, bounds: tuple[float, float], like: "keras.KerasTensor") -> "keras.KerasTensor":
        return keras.random.uniform((ops.shape(like)[0], 1, 1), *bounds, seed=self._seeds)

    def _moved(self, power: "keras.KerasTensor") -> "keras.KerasTensor":
        """Shifts each clip by up to `shift_ms` either way, and changes its speed by up to `speed_percent`.

        The speed changes about the clip's middle. Frames are interpolated linearly; gaps are filled with silence.
        """
        speed = self._settings.speed_percent / 100
        if not self._shift_frames and not speed:
            return power
        frames = power.shape[1]
        places = ops.arange(frames, dtype="float32")
        source = ops.reshape(places, (1, frames, 1))
        if speed:
            middle = (frames - 1) / 2
            source = (source - middle) * ops.exp(self._uniform((-1.0, 1.0), power) * math.log1p(speed)) + middle
        if self._shift_frames:
            source = source - ops.round(self._uniform((-1.0, 1.0), power) * self._shift_frames)
        # One matrix product a clip: each frame is the sum of its two neighbours, weighted by their nearness.
        return ops.matmul(ops.relu(1.0 - ops.abs(source - places)), power)

    def _with_gain(self, power: "keras.KerasTensor") -> "keras.KerasTensor":
        """Makes each clip louder or softer by up to `gain_db`."""
        if not self._settings.gain_db:
            return power
        return power * ops.exp(self._uniform((-1.0, 1.0), power) * (DECIBEL * self._settings.gain_db))

    def _with_noise(self, power: "keras.KerasTensor") -> "keras.KerasTensor":
        """Adds background noise at a random signal-to-noise ratio to a random part of the clips."""
        if self._noise is None:
            return power
        frames = power.shape[1]
        last = self._noise.shape[0] - frames
        start = ops.cast(self._uniform((0.0, 1.0), power)[:, :, 0] * last, "int32")
        noise = ops.take(self._noise, start + ops.arange(frames, dtype="int32")[None], axis=0)
        snr_db = self._uniform((self._settings.noise_snr_db.min, self._settings.noise_snr_db.max), power)
        signal = ops.mean(power, axis=(1, 2), keepdims=True)
        loudness = ops.mean(noise, axis=(1, 2), keepdims=True) + keras.config.epsilon() * self._front_end.floor
        chosen = ops.cast(self._uniform((0.0, 1.0), power) < self._settings.noise_probability, power.dtype)
        return power + noise * (chosen * (signal / loudness) * ops.exp(-DECIBEL * snr_db))

    def _masked(self, features: "keras.KerasTensor", axis: int, widest: int) -> "keras.KerasTensor":
        """Sets a random run of up to `widest` positions along `axis` to the clip's mean (SpecAugment, Park et al.
        2019)."""
        if not widest:
            return features
        size = features.shape[axis]
        width = self._uniform((0.0, 1.0), features) * min(widest, size)
        start = self._uniform((0.0, 1.0), features) * (size - width)
        position = ops.reshape(ops.arange(size, dtype="float32"), (1, size, 1) if axis == 1 else (1, 1, size))
        hidden = ops.logical_and(position >= start, position < start + width)
        return ops.where(hidden, ops.mean(features, axis=(1, 2), keepdims=True), features)


class Mixup(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Mixes `share` of each clip with the rest of its partner, in training only (Zhang et al. 2018).

    Features are (clips, frames, bins), shares (clips, 1, 1) in [0, 1].
    """

    def call(
        self, features: "keras.KerasTensor", share: "keras.KerasTensor", training: bool = False
    ) -> "keras.KerasTensor":
        """Mixes clips in the way in which `TrainingBatches` mixes their labels."""
        if not training:
            return features
        clips = ops.shape(features)[0]
        partners = ops.minimum(ops.bitwise_xor(ops.arange(clips, dtype="int32"), 1), clips - 1)
        return share * features + (1.0 - share) * ops.take(features, partners, axis=0)
