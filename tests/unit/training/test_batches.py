"""Which clips an epoch has, in which batches."""

import numpy as np
import pytest
from support.training import in_memory

from earmark.params.training import Candidate
from earmark.training.batches import TrainingBatches, balancing_repeats, validation_batches

FEATURES = np.arange(100, dtype=np.float16)[:, None, None]
LABELS = np.arange(100) % 3


def batches(batch_size=16, epoch=0, seed=1, labels=LABELS, devices=1, **settings):
    candidate = Candidate(batch_size=batch_size, optimizer={"name": "sgd", "learning_rate": 0.1}, **settings)
    drawn_batches = TrainingBatches(in_memory(FEATURES, labels), 3, candidate, seed, devices)
    drawn_batches.begin(epoch)
    return drawn_batches


def clips(drawn_batches) -> np.ndarray:
    return np.concatenate([drawn_batches[at][0][:, 0, 0] for at in range(len(drawn_batches))]).astype(int)


def test_an_epoch_has_whole_batches_of_distinct_clips_with_their_labels():
    drawn_batches = batches()
    assert len(drawn_batches) == 6
    assert all(len(drawn_batches[at][0]) == 16 for at in range(6))
    assert len(set(clips(drawn_batches))) == 96
    features, one_hot = drawn_batches[2]
    np.testing.assert_array_equal(one_hot.argmax(axis=1), LABELS[features[:, 0, 0].astype(int)])


def test_every_epoch_has_another_order_and_leaves_others_out():
    drawn_batches = batches()
    first = clips(drawn_batches)
    drawn_batches.begin(1)
    assert not np.array_equal(first, clips(drawn_batches))
    assert set(first) != set(clips(drawn_batches))


def test_an_epoch_is_the_same_whether_those_before_it_came_or_not():
    through = batches()
    for epoch in (1, 2, 3):
        through.begin(epoch)
    np.testing.assert_array_equal(clips(through), clips(batches(epoch=3)))
    assert not np.array_equal(clips(batches(epoch=3)), clips(batches(epoch=3, seed=2)))


def test_fewer_clips_than_a_batch_wants_are_one_batch():
    drawn_batches = batches(batch_size=1000)
    assert (len(drawn_batches), len(drawn_batches[0][0])) == (1, 100)


def test_balanced_sampling_lets_every_label_be_heard_equally_often():
    labels = np.repeat([0, 1, 2], [80, 15, 5])
    rng = np.random.default_rng(3)
    drawn = [balancing_repeats(labels, rng) for _ in range(200)]
    assert all(repeats.sum() == 100 and repeats.min() >= 0 for repeats in drawn)
    frequencies = np.mean([np.bincount(labels, weights=repeats) for repeats in drawn], axis=0)
    np.testing.assert_allclose(frequencies, 100 / 3, atol=0.5)
    drawn_batches = batches(batch_size=100, labels=labels, balanced_sampling=True)
    np.testing.assert_allclose(drawn_batches[0][1].sum(axis=0), 100 / 3, atol=1)


def test_mixup_mixes_labels_as_it_mixes_clips():
    (features, share), mixed = batches(augmentation={"mixup_alpha": 0.4})[0]
    one_hot = np.eye(3)[LABELS[features[:, 0, 0].astype(int)]]
    neighbours = one_hot.reshape(-1, 2, 3)[:, ::-1].reshape(-1, 3)
    np.testing.assert_allclose(mixed, share[:, 0] * one_hot + (1 - share[:, 0]) * neighbours, atol=1e-6)
    assert share.shape == (16, 1, 1)
    assert 0 <= share.min() < share.max() <= 1
    np.testing.assert_allclose(mixed.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("mixup", [False, True])
def test_validation_has_every_clip_once_and_unmixed_in_batches_of_one_size(mixup):
    drawn_batches = list(validation_batches(in_memory(FEATURES, LABELS), 3, mixup, 64))
    features = [inputs[0] if mixup else inputs for inputs, _ in drawn_batches]
    assert [len(batch) for batch in features] == [64, 64]
    assert not mixup or all((inputs[1] == 1).all() for inputs, _ in drawn_batches)
    np.testing.assert_array_equal(np.concatenate(features)[:100], FEATURES)
    assert not np.concatenate(features)[100:].any()
    np.testing.assert_array_equal(np.concatenate([one_hot for _, one_hot in drawn_batches]).argmax(axis=1), LABELS)


def test_a_batch_can_be_divided_among_devices():
    assert (batches(devices=3).clips, len(batches(devices=3))) == (15, 6)


def test_a_batch_keeps_to_the_epoch_that_it_was_asked_of():
    drawn_batches = batches()
    first = drawn_batches.batch_of_epoch
    before = first(0)[0]
    drawn_batches.begin(1)
    np.testing.assert_array_equal(first(0)[0], before)
    assert not np.array_equal(drawn_batches[0][0], before)
