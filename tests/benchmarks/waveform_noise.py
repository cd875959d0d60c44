"""Background noise mixed in as power, against noise mixed into waveforms: the same training both ways, as JSON.

Run as `python -m tests.benchmarks.waveform_noise <candidate> <epochs>` in a project with features. Mixed into
waveforms, every clip of every epoch goes through the front end anew. The ratio of signal to noise is of the power of
mel bands one way, and of the waveform the other.
"""

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd

from earmark import params
from earmark.audio import background_noise, decode
from earmark.audio.background_noise import split_portion
from earmark.dataset import shards
from earmark.evaluation import metrics, test_set
from earmark.features import numpy_backend
from earmark.models import backend, inference
from earmark.params.training import Augmentation, with_values
from earmark.paths import RAW
from earmark.training import job
from earmark.training.batches import Examples
from tests.benchmarks.scoring import SNR_DB
from tests.support.training import Unwatched

BLOCK_CLIPS = 64


class Noisy:
    """Clips whose features are those of their waveforms with noise in them, drawn for each epoch."""

    def __init__(self, clean: np.ndarray, noise: list[np.ndarray], settings: Augmentation, front_end):
        self._clean, self._noise, self._settings, self._front_end = clean, noise, settings, front_end

    def epoch(self, generator: np.random.Generator, repeats: None = None):
        """All clips once, in a drawn order."""
        order = generator.permutation(len(self._clean))
        chosen = generator.uniform(size=len(order)) < self._settings.noise_probability
        span = self._settings.noise_snr_db
        snr_db = np.where(chosen, generator.uniform(span.min, span.max, len(order)), np.inf)
        mixed = _with_noise(self._clean[order], self._noise, snr_db, generator)
        features = _features(mixed, self._front_end)
        return SimpleNamespace(order=order, rows=lambda start, stop: features[start:stop])


def _with_noise(clean: np.ndarray, noise: list[np.ndarray], snr_db, generator: np.random.Generator) -> np.ndarray:
    pieces = background_noise.draw_segments(noise, clean.shape[1], len(clean), generator)
    return background_noise.mix(clean, pieces, snr_db)


def _waveforms(clips: pd.DataFrame, front_end) -> np.ndarray:
    return np.concatenate(list(inference.waveforms(front_end, shards.read_recordings(RAW, clips))))


def _features(heard: np.ndarray, front_end) -> np.ndarray:
    blocks = (heard[at : at + BLOCK_CLIPS] for at in range(0, len(heard), BLOCK_CLIPS))
    return np.concatenate(
        [numpy_backend.to_float16(numpy_backend.features(block, (front_end,))[0]) for block in blocks]
    )


def main(candidate: str, epochs: int) -> None:
    """Prints both ways' summaries of the test split, clean and noisy."""
    loaded = params.load()
    backend.start(loaded.seed)
    from earmark.training import fitting

    settings = loaded.train.candidate(candidate).model_copy(update={"epochs": epochs})
    data = job.read_data(loaded, candidate)
    front_end = data.front_end.stored
    recordings = test_set.decodable(test_set.read(loaded).noise_recordings, front_end.sample_rate_hz)
    noise = [decode.mono(recording, front_end.sample_rate_hz) for recording in shards.read_recordings(RAW, recordings)]
    heard_noise, other_noise = ([split_portion(samples, split) for samples in noise] for split in ("training", "test"))
    clips = data.clips[data.clips["split"] == "training"].reset_index(drop=True)
    noisy = Noisy(_waveforms(clips, front_end), heard_noise, settings.augmentation, front_end)
    without = with_values(settings, {"augmentation.noise_probability": 0.0})
    tested = data.clips[data.clips["split"] == "test"].reset_index(drop=True)
    clean = _waveforms(tested, front_end)
    heard = {
        "clean": _features(clean, front_end),
        "noisy": _features(_with_noise(clean, other_noise, SNR_DB, np.random.default_rng(1)), front_end),
    }
    labels = np.array(data.labels, dtype=object)

    def scores(settings, training: Examples) -> dict:
        backend.start(loaded.seed)
        recipe = job.recipe(data, candidate, settings, loaded.seed)
        network = recipe.build()
        network.set_weights(fitting.fit(recipe, training, data.validation, Unwatched()).weights)
        predictions = {
            name: labels[network.predict(features, verbose=0).argmax(axis=1)] for name, features in heard.items()
        }
        frame = tested[["label", "speaker"]]
        return {name: metrics.summary(frame.assign(predicted=predicted), 1) for name, predicted in predictions.items()}

    waveform = scores(without, replace(data.training, features=noisy))
    print(json.dumps({"power": scores(settings, data.training), "waveform": waveform}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
