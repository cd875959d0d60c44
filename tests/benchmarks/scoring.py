"""Scores a saved model on real recordings, clean and with background noise, and prints what it finds as JSON.

Run as `python -m tests.benchmarks.scoring <model folder> <split>` in a project whose clips were accepted, and once
before any training as `python -m tests.benchmarks.scoring hold-out-noise`, which leaves training the first part of the
background noise; models are scored with the last.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from earmark.audio import decode
from earmark.audio.front_ends import FrontEnd
from earmark.learning import export
from earmark.scoring import metrics
from earmark.stages.paths import ACCEPTED, FEATURES, RAW
from earmark.stores import features, shards

SNR_DB = 10.0
LATENCY_CALLS = 200
TRAINING_SHARE, SCORING_SHARE = 0.6, 0.3
"""Of the background noise, from its beginning and from its end."""


def waveforms(clips: pd.DataFrame, front_end) -> np.ndarray:
    """Float32 (clips, samples) of accepted clips."""
    heard = front_end.sample_rate_hz, front_end.clip_samples, front_end.padding
    return np.stack([decode.clip(content, *heard) for content in shards.read_recordings(RAW, clips)])


def background(sample_rate_hz: int) -> np.ndarray:
    """All background noise of the data set, float32 (samples,)."""
    members = shards.read_members(RAW)
    noise = members[~members["retired"] & (members["split"] == shards.NOISE)]
    return np.concatenate([decode.mono(content, sample_rate_hz) for content in shards.read_recordings(RAW, noise)])


def hold_out_noise() -> None:
    """Cuts the noise in feature shards down to its training share."""
    for folder in FEATURES.iterdir():
        noise = features.read_noise(folder)
        front_end = FrontEnd(**json.loads((folder / features.SETTINGS).read_text(encoding="utf-8")))
        features.write_noise(folder, [noise[: int(TRAINING_SHARE * len(noise))]], front_end)


def with_noise(clean: np.ndarray, noise: np.ndarray, snr_db: float | np.ndarray, seed: int) -> np.ndarray:
    """Each clip with a drawn piece of `noise`, its mean power `snr_db`, of all or of each, below the clip's."""
    starts = np.random.default_rng(seed).integers(len(noise) - clean.shape[1], size=len(clean))
    pieces = noise[starts[:, None] + np.arange(clean.shape[1])]
    ratio = (clean**2).mean(axis=1) / np.maximum((pieces**2).mean(axis=1), 1e-12)
    return clean + pieces * np.sqrt(ratio * 10 ** (-snr_db / 10)).astype(np.float32)[:, None]


def main(folder: Path, split: str) -> None:
    """Prints accuracy, its interval, accuracy in noise, size and latency."""
    classifier = export.load(folder)
    clips = shards.read_accepted(ACCEPTED)
    clips = clips[clips["split"] == split].reset_index(drop=True)
    clean = waveforms(clips, classifier.front_end)
    noise = background(classifier.front_end.sample_rate_hz)
    noisy = with_noise(clean, noise[-int(SCORING_SHARE * len(noise)) :], SNR_DB, seed=1)
    labels = np.array(classifier.labels, dtype=object)

    def said(heard: np.ndarray) -> np.ndarray:
        return labels[classifier.model.predict(heard, batch_size=256, verbose=0).argmax(axis=1)]

    durations = []
    for at in range(LATENCY_CALLS):
        began = time.perf_counter()
        classifier.model.predict_on_batch(clean[at % len(clean)][None])
        durations.append(1000 * (time.perf_counter() - began))
    print(
        json.dumps(
            metrics.summary(clips[["label", "speaker"]].assign(predicted=said(clean)), 1)
            | {
                "noisy_accuracy": float((said(noisy) == clips["label"]).mean()),
                "parameters": classifier.parameters,
                "saved_bytes": (folder / export.MODEL).stat().st_size,
                "latency_ms": statistics.median(durations),
            }
        )
    )


if __name__ == "__main__":
    hold_out_noise() if sys.argv[1] == "hold-out-noise" else main(Path(sys.argv[1]), sys.argv[2])
