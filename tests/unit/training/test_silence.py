"""Clips of silence among those that a network is trained on."""

import numpy as np
import pytest
from support.training import in_memory

from earmark import params
from earmark.features import front_ends, numpy_backend
from earmark.training.silence import WithSilence

LOG_MEL = front_ends.front_end("log_mel", params.load())
CLIPS, SILENCES = 50, 20


@pytest.fixture
def examples() -> WithSilence:
    """Clips that hold their own number, and silence from noise whose waveform is known."""
    clips = np.zeros((CLIPS, LOG_MEL.frames, LOG_MEL.bins), np.float16)
    clips[:] = np.arange(CLIPS)[:, None, None]
    noise = np.random.default_rng(3).normal(size=5 * LOG_MEL.sample_rate_hz).astype(np.float32) * 0.1
    (frames,) = numpy_backend.features(noise[None], (LOG_MEL,))
    numbered = in_memory(clips, np.zeros(CLIPS, int)).features
    return WithSilence(numbered, CLIPS, SILENCES, frames[0].astype(np.float16), LOG_MEL)


def in_batches(epoch, size: int) -> np.ndarray:
    return np.concatenate([epoch.rows(at, at + size) for at in range(0, len(epoch.order), size)])


@pytest.mark.parametrize("size", [1, 7, 64, 70, 100])
def test_each_clip_comes_at_its_own_place_among_the_silences(examples, size):
    epoch = examples.epoch(np.random.default_rng(1))
    rows = in_batches(epoch, size)
    assert sorted(epoch.order) == list(range(CLIPS + SILENCES))
    is_clip = epoch.order < CLIPS
    np.testing.assert_array_equal(rows[is_clip, 0, 0], epoch.order[is_clip])
    assert (rows[~is_clip] < 1).all()
    assert not is_clip[:CLIPS].all()


def test_silence_is_softer_than_the_noise_it_is_cut_from(examples):
    epoch = examples.epoch(np.random.default_rng(1))
    silent = in_batches(epoch, 10)[epoch.order >= CLIPS].astype(np.float32).mean(axis=(1, 2))
    assert silent.max() <= examples.noise.astype(np.float32).mean() + 0.02
    assert len(np.unique(silent.round(3))) > SILENCES / 2


def test_every_epoch_draws_others_and_the_order_without_a_generator_is_always_the_same(examples):
    def silences(generator):
        epoch = examples.epoch(generator)
        return in_batches(epoch, 10)[epoch.order >= CLIPS]

    assert not np.array_equal(silences(np.random.default_rng(1)), silences(np.random.default_rng(2)))
    np.testing.assert_array_equal(silences(None), silences(None))


def test_balanced_sampling_repeats_silences_too(examples):
    repeats = np.r_[np.zeros(CLIPS, int), np.full(SILENCES, 3)]
    repeats[4] = 2
    epoch = examples.epoch(np.random.default_rng(1), repeats)
    assert len(epoch.order) == 2 + 3 * SILENCES
    rows = in_batches(epoch, 10)
    assert (rows[epoch.order == 4] == 4).all()
    assert (rows[epoch.order >= CLIPS] < 1).all()
