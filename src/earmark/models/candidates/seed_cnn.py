"""The network of the tutorial "Simple audio classification with Keras": four convolutions on a log spectrogram."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

FRONT_END = "spectrogram"


def build(input_shape: tuple[int, int], labels: int) -> "keras.Model":
    """Builds the network from features (frames, bins) to probabilities of `labels` labels.

    It has 2,226,846 parameters for features (98, 257) and 30 labels.
    """
    from keras import Sequential, layers

    return Sequential(
        [
            layers.Input(input_shape),
            layers.Reshape((*input_shape, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(128, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(256, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(labels, activation="softmax", dtype="float32"),
        ],
        name="seed_cnn",
    )
