"""Run as a script, under either backend of Keras: predicts with candidates of given weights, trains each for two epochs
of two batches, one of them as long with mixup, and those that AUGMENTED names with every augmentation; writes what came
out of each.

    AUGMENTED="<candidate> ..." python -m support.backend_child <folder for results> <candidate> ...
"""

import os
import sys
from pathlib import Path

import numpy as np

from earmark import params
from earmark.features import front_ends
from earmark.models import backend
from support.training import EVERYTHING, Unwatched, in_memory, with_all_candidates

CLIPS, LABELS = 8, 3
MIXED = ("seed_cnn",)


def given(shape: tuple[int, ...], initial: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Weights that are the same everywhere: kernels drawn here, all else as Keras begins with it."""
    if len(shape) < 2:
        return initial
    inputs = shape[:-2] if shape[-1] == 1 else shape[:-1]  # depthwise kernels have one output for each channel
    return rng.normal(0, 1 / np.sqrt(np.prod(inputs)), shape).astype(np.float32)


def two_devices() -> None:
    """Has TensorFlow see its one processor as two devices; JAX is told so by XLA_FLAGS."""
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        halves = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], halves)


def settings_for(candidate: str) -> params.Params:
    """The settings of params.yaml, but for fewer frames and bins; of fewer frames, bc_resnet magnifies rounding."""
    loaded = with_all_candidates()
    if candidate == "bc_resnet":
        return loaded
    features = {"window_ms": 16.0, "stride_ms": 20.0, "fft_length": 256}
    return loaded.model_copy(update={"features": loaded.features.model_copy(update=features)})


def outcome(candidate: str, loaded: params.Params) -> dict[str, np.ndarray]:
    from keras import layers

    from earmark.models.candidates import front_end_of, module_of
    from earmark.params.training import Augmentation as Settings
    from earmark.params.training import Candidate
    from earmark.training import fitting

    front_end = front_ends.front_end(front_end_of(candidate), loaded)
    rng = np.random.default_rng(3)
    features = rng.uniform(0, 1, (CLIPS, front_end.frames, front_end.bins)).astype(np.float16)
    examples = in_memory(features, np.arange(CLIPS) % LABELS)
    odd = in_memory(features[:-1], np.arange(CLIPS - 1) % LABELS)  # not to be divided among two devices
    noise = rng.uniform(0, 1, (200, front_end.bins))

    def build():
        shape = front_end.frames, front_end.bins
        network = module_of(candidate).build(shape, LABELS, **loaded.train.candidate(candidate).network)
        weights = np.random.default_rng(4)
        network.set_weights([given(array.shape, array, weights) for array in network.get_weights()])
        for layer in network.layers:  # each backend draws what is dropped in its own way
            if isinstance(layer, layers.Dropout | layers.SpatialDropout2D):
                layer.rate = 0.0
        return network

    def trained(augmentation: Settings) -> list[np.ndarray]:
        settings = Candidate(
            epochs=2, batch_size=CLIPS // 2, optimizer={"name": "sgd", "learning_rate": 0.01}, augmentation=augmentation
        )
        recipe = fitting.Recipe(build, front_end, noise, LABELS, settings, 1)
        return fitting.fit(recipe, examples, odd, Unwatched()).weights

    network = build()
    predicted = network.predict_on_batch(features.astype(np.float32))
    plain = trained(Settings())
    network.set_weights(plain)
    then = network.predict_on_batch(features.astype(np.float32))
    arrays = {"predicted": predicted, "trained": flat(plain), "then": then}
    if candidate in MIXED:
        arrays["mixed"] = flat(trained(Settings(mixup_alpha=0.4)))
    if candidate in os.environ["AUGMENTED"].split():
        arrays["augmented"] = flat(trained(Settings(**EVERYTHING)))
    return arrays | {"devices": len(backend.devices())}


def flat(weights: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([array.ravel() for array in weights])


def main(folder: str, *candidates: str) -> None:
    if os.environ.get("TWO_DEVICES"):
        two_devices()
    backend.start(1)
    for candidate in candidates:
        np.savez(Path(folder) / f"{candidate}.npz", **outcome(candidate, settings_for(candidate)))


main(*sys.argv[1:])
