"""Spectrograms as the TensorFlow tutorial on simple audio makes them: tf.data over loose WAV files, clip by clip.

Run as `python -m tests.benchmarks.tutorial_way < FILES`, one file a line: prints the clips per second of one pass over
them, after another one that does not count, as JSON.
"""

import json
import os
import sys
import time

import tensorflow as tf

SAMPLES = 16_000
WINDOW_SAMPLES, STRIDE_SAMPLES = 480, 160
FLOOR = 0.01


def spectrogram(path: tf.Tensor) -> tf.Tensor:
    """The spectrogram of one file, float32 (1, frames, bins)."""
    audio, _ = tf.audio.decode_wav(tf.io.read_file(path), desired_channels=1, desired_samples=SAMPLES)
    power = tf.raw_ops.AudioSpectrogram(
        input=audio, window_size=WINDOW_SAMPLES, stride=STRIDE_SAMPLES, magnitude_squared=True
    )
    return tf.math.log(tf.abs(power) + FLOOR)


def main() -> None:
    """Measures and prints."""
    paths = sys.stdin.read().splitlines()
    files = tf.data.Dataset.from_tensor_slices(paths)
    features = files.map(spectrogram, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    for _ in range(2):
        os.sync()
        began = time.perf_counter()
        for _ in features:
            pass
        seconds = time.perf_counter() - began
    print(json.dumps(len(paths) / seconds))


if __name__ == "__main__":
    main()
