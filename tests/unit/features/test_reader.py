"""Features read for training: from memory or from the files, the same clips in the same order."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from earmark.errors import UserError
from earmark.features import feature_shards
from earmark.features.reader import WINDOW_BYTES, FeatureReader


@dataclass(frozen=True)
class Shape:
    frames: int
    bins: int

    def settings(self) -> dict:
        return {"frames": self.frames, "bins": self.bins}


BIG = Shape(64, 512)  # 16 clips a run, so that a few thousand clips are more than a window
SHARD_CLIPS = 1500


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three shards of clips whose every value is the clip's number."""
    place = tmp_path_factory.mktemp("features")
    feature_shards.prepare(place, BIG.settings())
    for shard in range(3):
        with feature_shards.open_writer(place, f"shard-{shard}.tar", SHARD_CLIPS, BIG) as append:
            for member in range(SHARD_CLIPS):
                append(np.full((1, BIG.frames, BIG.bins), shard * SHARD_CLIPS + member, dtype=np.float16))
    return place


@pytest.fixture(scope="module")
def clips() -> pd.DataFrame:
    """Four in five of the clips, in no order; `value` is what their features hold."""
    value = np.random.default_rng(0).permutation(3 * SHARD_CLIPS)[: 12 * SHARD_CLIPS // 5]
    shard = [f"shard-{number // SHARD_CLIPS}.tar" for number in value]
    # float16 has no odd numbers above 2,048: what was written is what it rounds to.
    return pd.DataFrame({"shard": shard, "member": value % SHARD_CLIPS, "value": value.astype(np.float16)})


def values(reader: FeatureReader, generator=None, batch: int = 64, repeats=None) -> tuple[np.ndarray, np.ndarray]:
    """The order of an epoch, and the first value of each clip's features as it comes in batches."""
    epoch = reader.epoch(generator, repeats)
    batches = [epoch.rows(start, start + batch) for start in range(0, len(epoch.order), batch)]
    assert all((rows == rows[:, :1, :1]).all() for rows in batches)
    return epoch.order, np.concatenate([rows[:, 0, 0] for rows in batches])


@pytest.mark.parametrize("seed", [None, 1])
def test_streamed_and_in_memory_are_the_same_clips_in_the_same_order(folder, clips, seed):
    assert len(clips) * 2 * BIG.frames * BIG.bins > WINDOW_BYTES
    in_memory, streamed = (FeatureReader(folder, clips, in_memory=choice) for choice in (True, False))
    for _ in range(2):
        generators = [None if seed is None else np.random.default_rng(seed) for _ in range(2)]
        (order, features), (other_order, other) = values(in_memory, generators[0]), values(streamed, generators[1])
        np.testing.assert_array_equal(order, other_order)
        np.testing.assert_array_equal(features, other)
        np.testing.assert_array_equal(features, clips["value"].to_numpy()[order])
        np.testing.assert_array_equal(np.sort(order), np.arange(len(clips)))


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_clip_comes_as_often_as_it_is_repeated(folder, clips, in_memory):
    repeats = np.random.default_rng(2).integers(0, 4, len(clips))
    order, features = values(
        FeatureReader(folder, clips, in_memory=in_memory), np.random.default_rng(1), repeats=repeats
    )
    np.testing.assert_array_equal(np.bincount(order, minlength=len(clips)), repeats)
    np.testing.assert_array_equal(features, clips["value"].to_numpy()[order])
    assert (np.diff(order) == 0).mean() < 0.01  # copies of a clip do not follow each other


def test_each_epoch_has_an_order_of_its_own_and_a_seed_gives_it_again(folder, clips):
    reader = FeatureReader(folder, clips, in_memory=True)
    first, second = np.random.default_rng(1), np.random.default_rng(1)
    orders = [reader.epoch(first).order for _ in range(2)]
    assert (orders[0] != orders[1]).mean() > 0.9
    np.testing.assert_array_equal(orders, [reader.epoch(second).order for _ in range(2)])


def test_clips_from_all_shards_are_in_each_batch(folder, clips):
    reader = FeatureReader(folder, clips, in_memory=False)
    order = reader.epoch(np.random.default_rng(2)).order
    shards = clips["shard"].to_numpy()[order]
    assert min(len(set(shards[start : start + 64])) for start in range(0, len(order) - 64, 64)) == 3


def test_an_epoch_may_begin_again_from_the_start(folder, clips):
    epoch = FeatureReader(folder, clips, in_memory=False).epoch(np.random.default_rng(3))
    first = epoch.rows(0, 64)
    epoch.rows(64, len(clips))
    np.testing.assert_array_equal(epoch.rows(0, 64), first)


def test_many_small_shards_are_shuffled_as_few_large_ones_are(tmp_path):
    small = Shape(8, 8)
    feature_shards.prepare(tmp_path, small.settings())
    for shard in range(300):
        with feature_shards.open_writer(tmp_path, f"shard-{shard:03}.tar", 2, small) as append:
            append(np.full((2, 8, 8), shard, dtype=np.float16))
    clips = pd.DataFrame(
        {"shard": np.repeat([f"shard-{number:03}.tar" for number in range(300)], 2), "member": [0, 1] * 300}
    )
    order = FeatureReader(tmp_path, clips).epoch(np.random.default_rng(0)).order
    neighbours = np.abs(np.diff(order // 2)) == 0
    assert neighbours.sum() < 20


def test_a_shard_that_is_missing_is_a_sentence(folder, clips):
    unknown = clips.assign(shard="shard-9.tar")
    with pytest.raises(UserError, match=r"shard-9.npy is missing; run 'dvc repro extract' first"):
        FeatureReader(folder, unknown)


def test_a_shard_of_other_settings_in_the_folder_is_refused(tmp_path):
    feature_shards.prepare(tmp_path, BIG.settings())
    with feature_shards.open_writer(tmp_path, "shard-0.tar", 1, Shape(64, 512)) as append:
        append(np.zeros((1, 64, 512), np.float16))
    clips = pd.DataFrame({"shard": ["shard-0.tar"], "member": [0]})
    assert FeatureReader(tmp_path, clips).clips == 1
    feature_shards.write_json(tmp_path / "settings.json", BIG.settings() | {"floor": 1})
    with pytest.raises(UserError, match="is damaged"):
        FeatureReader(tmp_path, clips)


def test_a_file_of_another_kind_is_refused_and_never_unpickled(tmp_path, clips):
    np.save(tmp_path / "shard-0.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="is damaged"):
        FeatureReader(tmp_path, clips[clips["shard"] == "shard-0.tar"])
