"""Background noise: which part a split may use, how it is mixed in, and how silence is made from it."""

import numpy as np
import pytest

from earmark.audio import background_noise

RECORDING = np.arange(1, 1001, dtype=np.float32)


def power(values: np.ndarray) -> np.ndarray:
    return (values.astype(np.float64) ** 2).mean(axis=-1)


@pytest.mark.parametrize("samples", [0, 1, 7, 1000])
def test_every_sample_of_noise_belongs_to_one_split(samples):
    splits = ("training", "validation", "test")
    parts = [background_noise.split_portion(RECORDING[:samples], split) for split in splits]
    np.testing.assert_array_equal(np.concatenate(parts), RECORDING[:samples])


def test_training_gets_three_fifths_of_each_recording():
    parts = [background_noise.split_portion(RECORDING, split) for split in background_noise.SHARES]
    assert [len(part) for part in parts] == [600, 200, 200]


def test_noise_is_as_far_below_its_clip_as_was_asked():
    generator = np.random.default_rng(0)
    clips = generator.normal(size=(3, 16_000)).astype(np.float32) * np.array([[0.001], [0.1], [1.0]], np.float32)
    noise = generator.normal(size=(3, 16_000)).astype(np.float32) * 0.3
    added = background_noise.mix(clips, noise, np.array([20.0, 0.0, 5.0])) - clips
    np.testing.assert_allclose(10 * np.log10(power(clips) / power(added)), [20, 0, 5], atol=0.01)


def test_silence_stays_silent_and_silent_noise_changes_nothing():
    clips = np.stack([np.zeros(100, np.float32), np.ones(100, np.float32)])
    noise = np.stack([np.ones(100, np.float32), np.zeros(100, np.float32)])
    np.testing.assert_array_equal(background_noise.mix(clips, noise, 10.0), clips)


def test_segments_are_runs_of_the_recordings_that_are_long_enough():
    short, long = -np.ones(49, np.float32), np.arange(60, dtype=np.float32)
    segments = background_noise.draw_segments([short, long], 50, 500, np.random.default_rng(0))
    assert (np.diff(segments, axis=1) == 1).all()
    assert set(segments[:, 0]) == set(range(11))


def test_a_recording_is_drawn_as_often_as_it_is_long():
    noise = [np.zeros(110, np.float32), np.ones(310, np.float32)]
    segments = background_noise.draw_segments(noise, 11, 4000, np.random.default_rng(0))
    assert segments[:, 0].mean() == pytest.approx(0.75, abs=0.03)


def test_silence_is_at_most_as_loud_as_recorded_and_sometimes_digital():
    gains = background_noise.draw_silence_gains(2000, np.random.default_rng(0))
    assert gains.max() <= 1
    assert (gains == 0).mean() == pytest.approx(0.1, abs=0.03)
    assert gains[gains > 0].min() >= 0.001
