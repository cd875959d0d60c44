"""What happens to training clips only, one part at a time."""

import numpy as np
import pytest
from conftest import ROOT

from earmark import params
from earmark.features import front_ends
from earmark.params import training
from earmark.training.augmentation import Augmentation, Mixup


@pytest.fixture(scope="module")
def augmentation():
    front_end = front_ends.front_end("log_mel", params.load(ROOT / "params.yaml"))

    def build(noise_frames=500, **settings):
        noise = np.random.default_rng(5).uniform(0, 1, (noise_frames, 40)).astype(np.float16)
        return Augmentation(training.Augmentation(**settings), front_end, noise, seed=7)

    return build


FEATURES = np.random.default_rng(4).uniform(0.3, 0.9, (64, 98, 40)).astype(np.float32)
FULL_SCALE, FLOOR = 46_080, 1e-6


def power(features) -> np.ndarray:
    """What features from 0 for silence to 1 for full scale stand for."""
    return np.expm1(np.asarray(features, dtype=np.float64) * np.log1p(FULL_SCALE / FLOOR)) * FLOOR


def test_augmentation_leaves_what_is_not_training_alone(augmentation):
    layer = augmentation(shift_ms=100, gain_db=6, noise_probability=1, frequency_mask_bands=6, time_mask_ms=150)
    np.testing.assert_array_equal(layer(FEATURES, training=False), FEATURES)


def test_augmentation_with_everything_off_is_the_identity(augmentation):
    np.testing.assert_allclose(augmentation()(FEATURES, training=True), FEATURES, atol=1e-3)


def test_noise_is_mixed_at_the_asked_ratio(augmentation):
    layer = augmentation(noise_probability=1.0, noise_snr_db={"min": 10, "max": 10})
    clean = power(FEATURES)
    noise = power(layer(FEATURES, training=True)) - clean
    ratio_db = 10 * np.log10(clean.mean(axis=(1, 2)) / noise.mean(axis=(1, 2)))
    np.testing.assert_allclose(ratio_db, 10, atol=0.1)


def test_without_background_noise_none_is_mixed_in(augmentation):
    np.testing.assert_allclose(
        augmentation(noise_frames=0, noise_probability=1)(FEATURES, training=True), FEATURES, atol=1e-3
    )


def test_gain_is_one_factor_a_clip_within_its_bounds(augmentation):
    change = power(augmentation(gain_db=6)(FEATURES, training=True)) / power(FEATURES)
    factor_db = 10 * np.log10(np.median(change, axis=(1, 2)))
    assert np.abs(factor_db).max() <= 6.01
    assert factor_db.std() > 1


def test_a_shift_moves_frames_and_fills_with_silence(augmentation):
    shifted = np.asarray(augmentation(shift_ms=100)(FEATURES, training=True))
    silent = (shifted == 0).all(axis=2).sum(axis=1)
    assert silent.max() <= 10
    assert silent.std() > 0


def test_speed_stretches_a_clip_about_its_middle(augmentation):
    frames = np.zeros((64, 98, 40), np.float32)
    frames[:, 29] = frames[:, 68] = 0.8  # 39 frames apart, middle 48.5
    moved = power(augmentation(speed_percent=25)(frames, training=True)).mean(axis=2)
    place = np.arange(98)
    left, right = (
        (moved[:, half] * place[half]).sum(axis=1) / moved[:, half].sum(axis=1) for half in (place < 48.5, place > 48.5)
    )
    np.testing.assert_allclose(left + right, 97, atol=0.5)
    assert 39 / 1.26 < (right - left).min() < 36 < 42 < (right - left).max() < 39 * 1.26


def test_masks_hide_runs_of_frames_and_of_bands_no_longer_than_asked(augmentation):
    masked = np.asarray(augmentation(time_mask_ms=150.0, frequency_mask_bands=6)(FEATURES, training=True))
    hidden = masked != FEATURES
    frames, bands = hidden.all(axis=2).sum(axis=1), hidden.all(axis=1).sum(axis=1)
    assert 10 <= frames.max() <= 15
    assert 4 <= bands.max() <= 6
    np.testing.assert_allclose(masked.mean(axis=(1, 2)), FEATURES.mean(axis=(1, 2)), atol=0.02)


def test_the_same_seed_draws_the_same(augmentation):
    settings = {"shift_ms": 100, "speed_percent": 10, "gain_db": 6, "noise_probability": 0.5, "time_mask_ms": 150}
    first, second = (np.asarray(augmentation(**settings)(FEATURES, training=True)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_silence_stays_finite(augmentation):
    layer = augmentation(shift_ms=100, speed_percent=10, gain_db=6, noise_probability=1, time_mask_ms=150)
    assert np.isfinite(np.asarray(layer(np.zeros((8, 98, 40), np.float32), training=True))).all()


def test_mixup_mixes_each_clip_with_its_neighbour_in_the_batch():
    share = np.array([0.9, 0.5, 0.2, 1.0, 0.3], np.float32)[:, None, None]
    mixed = np.asarray(Mixup()(FEATURES[:5], share, training=True))
    np.testing.assert_allclose(mixed[0], 0.9 * FEATURES[0] + 0.1 * FEATURES[1], atol=1e-6)
    np.testing.assert_allclose(mixed[1], 0.5 * FEATURES[1] + 0.5 * FEATURES[0], atol=1e-6)
    np.testing.assert_allclose(mixed[2], 0.2 * FEATURES[2] + 0.8 * FEATURES[3], atol=1e-6)
    np.testing.assert_allclose(mixed[4], FEATURES[4], atol=1e-6)
    np.testing.assert_array_equal(Mixup()(FEATURES[:5], share, training=False), FEATURES[:5])
