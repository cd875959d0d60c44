"""TC-ResNet: temporal convolutions with mel bands as channels (Choi et al. 2019, "Temporal Convolution for Real-time
Keyword Spotting on Mobile Devices")."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from earmark.models.candidates import batch_normalisation

if TYPE_CHECKING:
    import keras

FRONT_END = "log_mel"


def build(
    input_shape: tuple[int, int],
    labels: int,
    *,
    channels: Sequence[int],
    blocks_per_stage: int,
    kernel_size: int,
    dropout: float,
) -> "keras.Model":
    """Builds the network from features (frames, bands) to probabilities of `labels` labels.

    `channels`: channels of the first convolution, then of each stage. A stage has `blocks_per_stage` residual blocks;
    the first halves the number of frames.
    """
    from keras import Input, Model, layers

    features = Input(input_shape)
    x = batch_normalisation(name="normalisation", scale=False, center=False)(features)
    x = layers.Conv1D(channels[0], 3, padding="same", use_bias=False)(x)
    for width in channels[1:]:
        for block in range(blocks_per_stage):
            x = residual(x, width, kernel_size, stride=2 if block == 0 else 1)
    x = layers.GlobalAveragePooling1D()(x)
    x = layers.Dropout(dropout)(x)
    return Model(features, layers.Dense(labels, activation="softmax", dtype="float32")(x), name="tc_resnet")


def residual(x: "keras.KerasTensor", width: int, kernel_size: int, stride: int) -> "keras.KerasTensor":
    """Two temporal convolutions and a shortcut: (clips, frames, channels) to (clips, frames / stride, width)."""
    from keras import layers

    y = layers.Conv1D(width, kernel_size, strides=stride, padding="same", use_bias=False)(x)
    y = layers.Activation("relu")(batch_normalisation()(y))
    y = layers.Conv1D(width, kernel_size, padding="same", use_bias=False)(y)
    y = batch_normalisation()(y)
    if stride != 1 or x.shape[-1] != width:
        x = layers.Conv1D(width, 1, strides=stride, padding="same", use_bias=False)(x)
        x = layers.Activation("relu")(batch_normalisation()(x))
    return layers.Activation("relu")(layers.Add()([x, y]))
