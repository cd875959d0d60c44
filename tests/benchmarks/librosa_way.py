"""Log-mel features with librosa: a pool of processes over loose WAV files, clip by clip.

Run as `python -m tests.benchmarks.librosa_way < FILES`, one file a line: prints the clips per second of one pass over
them, after another one that does not count, as JSON. Who starts it sees to it that each
has one thread.
"""

import json
import multiprocessing
import os
import sys
import time

import librosa
import numpy as np

FLOOR = 1e-6
_CHUNK_CLIPS = 64


def log_mel(path: str) -> np.ndarray:
    """The log-mel features of one file, float16 (bands, frames)."""
    waveform, sample_rate_hz = librosa.load(path, sr=None)
    frames = {"n_fft": 512, "win_length": 480, "hop_length": 160, "center": False, "power": 2.0}
    bands = {"n_mels": 40, "fmin": 20.0, "fmax": 7600.0, "htk": True, "norm": None}
    power = librosa.feature.melspectrogram(y=waveform, sr=sample_rate_hz, **frames, **bands)
    return np.log(power + FLOOR).astype(np.float16)


def main() -> None:
    """Measures and prints."""
    paths = sys.stdin.read().splitlines()
    with multiprocessing.get_context("spawn").Pool(len(os.sched_getaffinity(0))) as workers:
        for _ in range(2):
            os.sync()
            began = time.perf_counter()
            for _ in workers.imap_unordered(log_mel, paths, _CHUNK_CLIPS):
                pass
            seconds = time.perf_counter() - began
    print(json.dumps(len(paths) / seconds))


if __name__ == "__main__":
    main()
