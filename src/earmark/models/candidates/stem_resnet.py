"""Our own: one convolution over time and frequency, which hears a word at another pitch as the same one, then the
temporal blocks of TC-ResNet on half as many frames."""

from collections.abc import Sequence

from earmark.models.candidates import batch_normalisation
from earmark.models.candidates.tc_resnet import residual

FRONT_END = "log_mel"


def build(
    input_shape: tuple[int, int],
    labels: int,
    *,
    stem_channels: int,
    channels: Sequence[int],
    kernel_size: int,
    dropout: float,
):
    """Features (frames, bands) to probabilities of `labels`.

    `stem_channels`: of the convolution over frames and bands, which halves both; `channels`: of the mixing of its bands
    and channels, then of each residual block; all blocks but the first one halve time.
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
