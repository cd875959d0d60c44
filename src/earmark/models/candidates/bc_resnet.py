"""BC-ResNet: two-dimensional features, and temporal context that is broadcast over the bands (Kim et al. 2021,
"Broadcasted Residual Learning for Efficient Keyword Spotting")."""

from typing import TYPE_CHECKING

from earmark.models.candidates import batch_normalisation

if TYPE_CHECKING:
    import keras

FRONT_END = "log_mel"

BLOCKS = (2, 2, 4, 4)
"""Residual blocks of each stage (table 1); the first block of a stage changes the width."""
WIDTHS = (8, 12, 16, 20)
"""Channels of each stage, for scale 1."""
BAND_STRIDES = (1, 2, 2, 1)
"""Stride of each stage over the bands."""
SUB_BANDS = 5
"""Groups of neighbouring bands that are normalised separately (section 3.2)."""


def build(input_shape: tuple[int, int], labels: int, *, scale: float, dropout: float) -> "keras.Model":
    """Builds the network from features (frames, bands) to probabilities of `labels` labels.

    `scale` multiplies every width: 1 gives the paper's BC-ResNet-1 with 9.2 thousand parameters for 12 labels, 8 its
    BC-ResNet-8 with 321 thousand.

    Raises:
        ValueError: the number of bands is no multiple of 40.
    """
    from keras import Input, Model, layers

    frames, bands = input_shape
    if bands % (8 * SUB_BANDS):
        raise ValueError(f"log_mel has {bands} bands; expected a multiple of {8 * SUB_BANDS}")
    features = Input(input_shape)
    x = layers.Permute((2, 1))(features)
    x = layers.Reshape((bands, frames, 1))(x)
    x = layers.Conv2D(round(16 * scale), 5, strides=(2, 1), padding="same", use_bias=False)(x)  # bands / 2
    x = _normalised(x, "relu")
    for stage, blocks in enumerate(BLOCKS):
        for block in range(blocks):
            stride = BAND_STRIDES[stage] if block == 0 else 1
            x = _block(x, round(WIDTHS[stage] * scale), stride, 2**stage, dropout)  # last: bands / 8
    x = layers.ZeroPadding2D((0, 2))(x)
    x = layers.DepthwiseConv2D(5, use_bias=False)(x)
    x = layers.Conv2D(round(32 * scale), 1, use_bias=False)(x)
    x = layers.GlobalAveragePooling2D()(_normalised(x, "relu"))
    return Model(features, layers.Dense(labels, activation="softmax", dtype="float32")(x), name="bc_resnet")


def _block(x: "keras.KerasTensor", width: int, stride: int, dilation: int, dropout: float) -> "keras.KerasTensor":
    """The sum of a convolution over bands (f2) and one over frames of its mean over bands (f1) (figure 1)."""
    from keras import layers

    shortcut = [x] if x.shape[-1] == width else []
    if not shortcut:
        x = _normalised(layers.Conv2D(width, 1, use_bias=False)(x), "relu")
    if stride == 1:
        x = layers.DepthwiseConv2D((3, 1), padding="same", use_bias=False)(x)
    else:  # Keras supports only one stride for both axes
        x = layers.DepthwiseConv2D((3, 1), padding="same", use_bias=False)(x)[:, ::stride]
    x = _sub_spectrally_normalised(x)
    y = layers.AveragePooling2D((x.shape[1], 1))(x)
    y = layers.DepthwiseConv2D((1, 3), dilation_rate=(1, dilation), padding="same", use_bias=False)(y)
    y = layers.Conv2D(width, 1, use_bias=False)(_normalised(y, "silu"))
    y = layers.SpatialDropout2D(dropout)(y)
    return layers.Activation("relu")(layers.Add()([x, y, *shortcut]))


def _normalised(x: "keras.KerasTensor", activation: str) -> "keras.KerasTensor":
    from keras import layers

    return layers.Activation(activation)(batch_normalisation()(x))


def _sub_spectrally_normalised(x: "keras.KerasTensor") -> "keras.KerasTensor":
    """Batch normalisation of each group of neighbouring bands separately (Chang et al. 2021)."""
    from keras import layers

    bands, frames, width = x.shape[1:]
    groups = layers.Reshape((SUB_BANDS, bands // SUB_BANDS * frames, width))(x)
    groups = layers.Reshape((bands // SUB_BANDS * frames, SUB_BANDS * width))(layers.Permute((2, 1, 3))(groups))
    groups = batch_normalisation()(groups)
    groups = layers.Permute((2, 1, 3))(layers.Reshape((bands // SUB_BANDS * frames, SUB_BANDS, width))(groups))
    return layers.Reshape((bands, frames, width))(groups)
