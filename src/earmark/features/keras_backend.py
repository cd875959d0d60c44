"""The front ends as Keras operations: inside a model, and of what shards hold while a network is trained."""

import keras
from keras import ops

from earmark.features.front_ends import FrontEnd, cosine_matrix, mel_matrix, window


def of_waveforms(waveforms, settings: FrontEnd):
    """The front end of a Keras tensor (clips, samples), of Keras' own operations only, so that a saved model needs
    nothing of earmark to be loaded."""
    # Keras centres the window in the FFT's frame; padding by as much on both sides keeps the frames where they are.
    left = settings.frame_offset
    right = settings.fft_length - settings.window_samples - left
    real, imaginary = ops.stft(
        ops.pad(waveforms, [[0, 0], [left, right]]),
        sequence_length=settings.window_samples,
        sequence_stride=settings.stride_samples,
        fft_length=settings.fft_length,
        window=window(settings).tolist(),  # Keras would round its own otherwise
        center=False,
    )
    power = ops.square(real) + ops.square(imaginary)
    if settings.mel_bands:
        power = _linear(power, mel_matrix(settings), "mel")
    return of_stored(of_power(power, settings), settings)


def of_stored(features, settings: FrontEnd):
    """The front end of what shards hold for it: the same, or the cosine transform of log mel bands for `mfcc`."""
    return _linear(features, cosine_matrix(settings), "cosines") if settings.coefficients else features


def of_power(power, settings: FrontEnd):
    """Log features of power, as shards hold them."""
    if settings.normalisation == "full_scale":
        return ops.log(power * (1 / settings.floor) + 1.0) * (1 / settings.log_range)
    return ops.log(power + settings.floor)


def to_power(features, settings: FrontEnd):
    """The power of log features that shards hold; `of_power` turned round, never below 0."""
    if settings.normalisation == "full_scale":
        power = (ops.exp(features * settings.log_range) - 1.0) * settings.floor
    else:
        power = ops.exp(features) - settings.floor
    return ops.maximum(power, 0.0)


def _linear(values, weights, name: str):
    layer = keras.layers.Dense(weights.shape[1], use_bias=False, trainable=False, name=name, dtype="float32")
    layer.build((None, len(weights)))
    layer.set_weights([weights])
    return layer(values)
