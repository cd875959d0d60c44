"""Background noise: what a split hears, how it is mixed in, and the silence that is cut from it."""

import numpy as np
import pytest

from earmark.audio import background_noise

RECORDING = np.arange(1, 1001, dtype=np.float32)


def power(values: np.ndarray) -> np.ndarray:
    return (values.astype(np.float64) ** 2).mean(axis=-1)


@pytest.mark.parametrize("samples", [0, 1, 7, 1000])
def test_every_sample_of_noise_is_heard_by_one_split(samples):
    parts = [background_noise.part(RECORDING[:samples], split) for split in ("training", "validation", "testing")]
    np.testing.assert_array_equal(np.concatenate(parts), RECORDING[:samples])


def test_training_hears_three_fifths_of_each_recording():
    assert [len(background_noise.part(RECORDING, split)) for split in background_noise.SHARES] == [600, 200, 200]


def test_noise_is_as_far_below_its_clip_as_was_asked():
    generator = np.random.default_rng(0)
    clips = generator.normal(size=(3, 16_000)).astype(np.float32) * np.array([[0.001], [0.1], [1.0]], np.float32)
    noise = generator.normal(size=(3, 16_000)).astype(np.float32) * 0.3
    added = background_noise.mixed(clips, noise, np.array([20.0, 0.0, 5.0])) - clips
    np.testing.assert_allclose(10 * np.log10(power(clips) / power(added)), [20, 0, 5], atol=0.01)


def test_silence_stays_silent_and_silent_noise_changes_nothing():
    clips = np.stack([np.zeros(100, np.float32), np.ones(100, np.float32)])
    noise = np.stack([np.ones(100, np.float32), np.zeros(100, np.float32)])
    np.testing.assert_array_equal(background_noise.mixed(clips, noise, 10.0), clips)


def test_stretches_are_runs_of_the_recordings_that_are_long_enough():
    short, long = -np.ones(49, np.float32), np.arange(60, dtype=np.float32)
    found = background_noise.stretches([short, long], 50, 500, np.random.default_rng(0))
    assert (np.diff(found, axis=1) == 1).all()
    assert set(found[:, 0]) == set(range(11))


def test_a_recording_is_drawn_as_often_as_it_is_long():
    noise = [np.zeros(110, np.float32), np.ones(310, np.float32)]
    found = background_noise.stretches(noise, 11, 4000, np.random.default_rng(0))
    assert found[:, 0].mean() == pytest.approx(0.75, abs=0.03)


def test_silence_is_at_most_as_loud_as_recorded_and_sometimes_digital():
    gains = background_noise.silence_gains(2000, np.random.default_rng(0))
    assert gains.max() <= 1
    assert (gains == 0).mean() == pytest.approx(0.1, abs=0.03)
    assert gains[gains > 0].min() >= 0.001
