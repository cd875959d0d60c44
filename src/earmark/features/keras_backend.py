"""The front ends as Keras operations: for models that take waveforms, and for training on stored features."""

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from earmark.features.front_end import FrontEnd, Tensor, window


def from_waveforms(waveforms: Tensor, settings: FrontEnd) -> Tensor:
    """Compute the front end of waveforms (clips, samples): (clips, frames, bins).

    Only Keras' own operations are used, so that a saved model can be loaded without earmark.
    """
    # Keras centres the window in the FFT's frame; padding by as much on both sides keeps the frames in place.
    left = settings.frame_offset
    right = settings.fft_length - settings.window_samples - left
    real, imaginary = ops.stft(
        ops.pad(waveforms, [[0, 0], [left, right]]),
        sequence_length=settings.window_samples,
        sequence_stride=settings.stride_samples,
        fft_length=settings.fft_length,
        window=window(settings).tolist(),  # Keras rounds its own window differently
        center=False,
    )
    power = ops.square(real) + ops.square(imaginary)
    if settings.weights is not None:
        power = linear(power, settings.weights, settings.layer)
    return from_stored(from_power(power, settings), settings)


def from_stored(features: Tensor, settings: FrontEnd) -> Tensor:
    """Compute the front end of stored features (clips, frames, stored bins): (clips, frames, bins)."""
    return settings.in_keras(features)


def from_power(power: Tensor, settings: FrontEnd) -> Tensor:
    """Compute stored features from power; same shape."""
    if settings.normalisation == "full_scale":
        return ops.log(power * (1 / settings.floor) + 1.0) * (1 / settings.log_range)
    return ops.log(power + settings.floor)


def to_power(features: Tensor, settings: FrontEnd) -> Tensor:
    """Compute the power of stored features, the inverse of `from_power`; at least 0."""
    if settings.normalisation == "full_scale":
        power = (ops.exp(features * settings.log_range) - 1.0) * settings.floor
    else:
        power = ops.exp(features) - settings.floor
    return ops.maximum(power, 0.0)


def linear(values: Tensor, weights: npt.NDArray[np.float32], name: str) -> Tensor:
    """Multiply by constant weights (values, results), as a layer called `name` in a saved model."""
    layer = keras.layers.Dense(weights.shape[1], use_bias=False, trainable=False, name=name, dtype="float32")
    layer.build((None, len(weights)))
    layer.set_weights([weights])
    return layer(values)
