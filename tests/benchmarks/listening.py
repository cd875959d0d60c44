"""Listens to the real clips of a split, strung together with pauses, on one core, and prints how fast, and what it
hears, as JSON.

Run as `python -m tests.benchmarks.listening <model folder> <split> [<dB>]` in a project whose clips were accepted; with
a signal-to-noise ratio, all of it lies in the data set's background noise.
"""

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from earmark import params
from earmark.audio import decode
from earmark.dataset import shards
from earmark.evaluation import test_set
from earmark.models import detector, model_folder
from earmark.models.detection import Detection
from earmark.params import NOT_WORDS
from earmark.paths import ACCEPTED, RAW

PAUSE_SECONDS = (0.3, 2.0)
NEAR_SECONDS = 0.75
"""How far from a word's middle a detection of it may be."""


def decoded(rows: pd.DataFrame, sample_rate_hz: int) -> list[np.ndarray]:
    """The recordings of rows of the manifest."""
    return [decode.mono(content, sample_rate_hz) for content in shards.read_recordings(RAW, rows)]


def strung(clips: list[np.ndarray], sample_rate_hz: int) -> tuple[np.ndarray, np.ndarray]:
    """One recording, (samples,), with a pause before each clip, and the second of each clip's middle."""
    pauses = np.random.default_rng(1).uniform(*PAUSE_SECONDS, len(clips))
    parts = [
        part
        for clip, pause in zip(clips, pauses, strict=True)
        for part in (np.zeros(round(pause * sample_rate_hz)), clip)
    ]
    ends = np.cumsum([len(part) for part in parts])[1::2]
    middles = (ends - np.array([len(clip) for clip in clips]) / 2) / sample_rate_hz
    return np.concatenate(parts).astype(np.float32), middles


def in_noise(speech: np.ndarray, snr_db: float, sample_rate_hz: int) -> np.ndarray:
    """`speech` in noise that training has not heard, over and over, `snr_db` below the mean power of all of it."""
    recordings = test_set.read(params.load()).noise("test", sample_rate_hz)
    noise = np.resize(np.concatenate(recordings), len(speech))
    return speech + noise * np.float32(np.sqrt((speech**2).mean() / (noise**2).mean() * 10 ** (-snr_db / 10)))


def listened(classifier, samples: np.ndarray) -> list[Detection]:
    """What `earmark listen` would print, with the second of each window's middle."""
    detections = detector.detections(classifier, np.array_split(samples, 100), classifier.rejection_threshold)
    middle = classifier.front_end.clip_samples / classifier.front_end.sample_rate_hz / 2
    return [replace(detection, seconds=detection.seconds + middle) for detection in detections]


def outcomes(detections: list[Detection], middles: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Shares of the words: `missed`, `twice`, `wrong` for another word at one that was said, `elsewhere` for one in a
    pause; and `unknown`, the share of unknown words that were taken for one."""
    is_word = ~np.isin(labels, NOT_WORDS)
    hits, counts = np.zeros(len(middles), int), {"wrong": 0, "elsewhere": 0, "unknown": 0}
    for detection in detections:
        nearest = np.abs(middles - detection.seconds).argmin()
        if abs(middles[nearest] - detection.seconds) > NEAR_SECONDS:
            counts["elsewhere"] += 1
        elif not is_word[nearest]:
            counts["unknown"] += 1
        elif detection.label == labels[nearest]:
            hits[nearest] += 1
        else:
            counts["wrong"] += 1
    of_words = {"missed": int((hits[is_word] == 0).sum()), "twice": int(np.maximum(hits - 1, 0).sum())}
    of_words |= {name: counts[name] for name in ("wrong", "elsewhere")}
    shares = {name: count / is_word.sum() for name, count in of_words.items()}
    return shares | {"unknown": counts["unknown"] / max(1, (~is_word).sum())}


def main(folder: Path, split: str, snr_db: float | None) -> None:
    """Prints the figures."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    began = time.perf_counter()
    classifier = model_folder.load(folder)
    loading = time.perf_counter() - began
    clips = shards.read_accepted(ACCEPTED)
    clips = clips[(clips["split"] == split) & clips["label"].isin(classifier.labels)].sample(frac=1, random_state=1)
    rate = classifier.front_end.sample_rate_hz
    samples, middles = strung(decoded(clips, rate), rate)
    samples = samples if snr_db is None else in_noise(samples, snr_db, rate)
    listened(classifier, samples[: 10 * rate])  # traces the network
    began = time.perf_counter()
    detections = listened(classifier, samples)
    factor = (time.perf_counter() - began) / (len(samples) / rate)
    facts = {
        "minutes": len(samples) / rate / 60,
        "words": len(middles),
        "threshold": classifier.rejection_threshold,
        "loading_seconds": loading,
        "seconds_per_second": factor,
    }
    print(json.dumps(facts | outcomes(detections, middles, clips["label"].to_numpy(str))))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]) if len(sys.argv) > 3 else None)
