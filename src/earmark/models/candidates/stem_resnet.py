"""Earmark's own network: one convolution over time and frequency, which tolerates a change of pitch, then the temporal
blocks of TC-ResNet on half as many frames."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from earmark.models.candidates import batch_normalisation
from earmark.models.candidates.tc_resnet import residual

if TYPE_CHECKING:
    import keras

FRONT_END = "log_mel"


def build(
    input_shape: tuple[int, int],
    labels: int,
    *,
    stem_channels: int,
    channels: Sequence[int],
    kernel_size: int,
    dropout: float,
) -> "keras.Model":
    """Builds the network from features (frames, bands) to probabilities of `labels` labels.

    `stem_channels`: channels of the convolution over frames and bands, which halves both. `channels`: channels of the
    1 x 1 convolution that mixes bands and channels, then of each residual block; every block but the first halves the
    number of frames.
    """
    from keras import Input, Model, layers

    features = Input(input_shape)
    x = batch_normalisation(name="normalisation", scale=False, center=False)(features)
    x = layers.Reshape((*input_shape, 1))(x)
    x = layers.Conv2D(stem_channels, 5, strides=2, padding="same", use_bias=False)(x)
    x = layers.Activation("relu")(batch_normalisation()(x))
    x = layers.Reshape((x.shape[1], x.shape[2] * x.shape[3]))(x)
    x = batch_normalisation()(layers.Conv1D(channels[0], 1, use_bias=False)(x))
    for block, width in enumerate(channels[1:]):
        x = residual(x, width, kernel_size, stride=2 if block else 1)
    x = layers.GlobalAveragePooling1D()(x)
    x = layers.Dropout(dropout)(x)
    return Model(features, layers.Dense(labels, activation="softmax", dtype="float32")(x), name="stem_resnet")
