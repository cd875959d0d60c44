"""Features of shards as they grow, of recordings of every kind, and after runs that were disturbed."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, candidates, change_params
from support.growing import empty_registry, fill, forget, manifest, run_ingest, wav
from support.recordings import plain, written

from earmark import params
from earmark.audio import background_noise, decode
from earmark.errors import UserError
from earmark.features import feature_shards, front_ends, numpy_backend
from earmark.features.reader import FeatureReader
from earmark.params import environment
from earmark.stages.extract import extract
from earmark.stages.train import train

__all__ = ["empty_registry", "forget"]  # fixtures

FEATURES = Path("data/features")
ASIDE = Path("data/features.aside")
RECORDINGS = {
    f"{label}/{speaker}_nohash_0.wav": wav(10 * s + n, 1.0)
    for n, label in enumerate(("no", "yes"))
    for s, speaker in enumerate(("anouk", "ben"))
}
HUM = wav(99, 3.0)
BOTH = candidates("seed_cnn", "tc_resnet")
"""They have different front ends."""


@pytest.fixture
def recordings(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy2(ROOT / "params.yaml", folder)
    change_params(folder, {"dataset": {"source": "../recordings"}, "train": {"candidates": BOTH}})
    monkeypatch.chdir(folder)
    return fill(tmp_path / "recordings", RECORDINGS | {"_background_noise_/hum.wav": HUM})


def run_extract(**changes: object) -> str:
    if changes:
        change_params(Path(), changes)
    return extract(params.load())


def expected(content: bytes, name: str = "log_mel") -> np.ndarray:
    front_end = front_ends.front_end(name, params.load())
    waveform = decode.clip(content, front_end.sample_rate_hz, front_end.clip_samples, front_end.padding)
    return in_float16(waveform, name)


def in_float16(waveform: np.ndarray, name: str = "log_mel") -> np.ndarray:
    (features,) = numpy_backend.features(waveform[None], (front_ends.front_end(name, params.load()),))
    return numpy_backend.to_float16(features[0])


def stored(recording: str, name: str = "log_mel") -> np.ndarray:
    return FeatureReader(FEATURES / name, manifest().loc[[recording]]).epoch().rows(0, 1)[0]


def shard_bytes(folder: Path = FEATURES) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.glob("*/shard-*.npy")}


def times() -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in FEATURES.glob("*/shard-*")}


@pytest.mark.parametrize("name", ["log_mel", "spectrogram"])
def test_every_clip_has_its_features(recordings, name):
    run_ingest()
    run_extract()
    for recording, content in RECORDINGS.items():
        np.testing.assert_array_equal(stored(recording, name), expected(content, name))


@pytest.mark.parametrize("padding", ["silence", "repeat", "reflect"])
def test_recordings_of_every_kind_have_the_features_of_their_clips(recordings, padding):
    noise = np.random.default_rng(3).integers(-9000, 9000, 40_000)
    kinds = {
        "short": plain(noise[:6688]),
        "long": plain(noise),
        "slow": plain(noise[:9000], 8000),
        "stereo": plain(noise, 16_000, channels=2),
        "float": written("WAV", "FLOAT"),
        "flac": written("FLAC", "PCM_24"),
    }
    fill(recordings, {f"yes/{name}_nohash_0.wav": content for name, content in kinds.items()})
    run_ingest()
    run_extract(dataset={"padding": padding})
    for name, content in kinds.items():
        np.testing.assert_array_equal(stored(f"yes/{name}_nohash_0.wav"), expected(content))


def test_what_cannot_be_decoded_has_the_features_of_silence_and_disturbs_no_other(recordings):
    fill(recordings, {"yes/broken_nohash_0.wav": RECORDINGS["yes/ben_nohash_0.wav"][:40]})
    run_ingest()
    run_extract()
    assert (stored("yes/broken_nohash_0.wav") == 0).all()
    for recording, content in RECORDINGS.items():
        np.testing.assert_array_equal(stored(recording), expected(content))


def test_noise_is_one_run_of_frames_however_long(recordings):
    long = wav(98, 120.0)  # more than is computed at a time
    fill(recordings, {"_background_noise_/long.wav": long})
    run_ingest()
    run_extract()
    for split in ("training", "validation"):
        portions = [background_noise.split_portion(decode.mono(content, 16_000), split) for content in (HUM, long)]
        expected = np.concatenate([in_float16(portion) for portion in portions])
        np.testing.assert_allclose(feature_shards.read_noise(FEATURES / "log_mel", split), expected, atol=1e-3)


def test_a_recording_that_was_noise_and_became_a_clip_has_the_features_of_a_clip(recordings):
    run_ingest()
    run_extract()
    (recordings / "hum").mkdir()
    (recordings / "_background_noise_/hum.wav").rename(recordings / "hum/hum.wav")
    run_ingest()
    run_extract()
    np.testing.assert_array_equal(stored("hum/hum.wav"), expected(HUM))
    assert len(feature_shards.read_noise(FEATURES / "log_mel", "training")) == 0


def test_only_new_shards_are_computed(recordings):
    run_ingest()
    run_extract()
    before = times()
    fill(recordings, {"yes/new_nohash_0.wav": wav(50, 1.0)})
    run_ingest()
    assert run_extract().startswith("1 of 2 shards were new")
    assert before.items() < times().items()
    assert run_extract().startswith("0 of 2 shards were new")


def test_going_back_to_earlier_settings_finds_their_shards_and_computes_what_came_meanwhile(recordings, capsys):
    run_ingest()
    run_extract()
    before, features_before = times(), shard_bytes()
    capsys.readouterr()
    assert run_extract(features={"stride_ms": 20.0}).startswith("1 of 1 shards were new")
    assert "data/features/log_mel: moved the features of other settings to data/features.aside/log_mel-" in (
        capsys.readouterr().out
    )
    np.testing.assert_array_equal(stored("yes/ben_nohash_0.wav"), expected(RECORDINGS["yes/ben_nohash_0.wav"]))
    fill(recordings, {"yes/new_nohash_0.wav": wav(50, 1.0)})
    run_ingest()
    assert run_extract(features={"stride_ms": 10.0}).startswith("1 of 2 shards were new")
    assert "data/features/log_mel: restored the features of these settings" in capsys.readouterr().out
    assert before.items() < times().items()
    assert features_before.items() < shard_bytes().items()
    assert run_extract(features={"stride_ms": 20.0}).startswith("1 of 2 shards were new")


def test_features_of_a_candidate_that_is_gone_wait_for_it(recordings):
    run_ingest()
    run_extract()
    before = times()
    run_extract(train={"candidates": candidates("tc_resnet")})
    assert [path.name for path in FEATURES.iterdir()] == ["log_mel"]
    assert run_extract(train={"candidates": BOTH}).startswith("0 of 1 shards were new")
    assert times() == before


def test_what_waits_of_a_forgotten_person_is_removed(recordings, forget):
    run_ingest()
    run_extract()
    run_extract(features={"stride_ms": 20.0})
    waiting = shard_bytes(ASIDE)
    assert waiting
    done = forget("ben")
    assert done.returncode == 0, done.stderr
    assert shard_bytes(ASIDE) == {}
    assert shard_bytes() == {}


def test_what_waits_of_recordings_that_their_source_lost_is_removed(recordings):
    run_ingest()
    run_extract()
    run_extract(features={"stride_ms": 20.0})
    assert shard_bytes(ASIDE)
    fill(recordings, {f"{label}/new_nohash_0.wav": wav(50 + n, 1.0) for n, label in enumerate(("no", "yes"))})
    run_ingest()
    for recording in RECORDINGS:
        (recordings / recording).unlink()
    (recordings / "_background_noise_/hum.wav").unlink()
    run_ingest()
    run_extract()
    assert not list(ASIDE.iterdir())
    assert len(shard_bytes()) == 2


def test_setting_aside_that_was_killed_in_between_is_finished_by_the_next_run(recordings):
    run_ingest()
    run_extract()
    before = shard_bytes()
    run_extract(features={"stride_ms": 20.0})
    # As if killed on the way back, and before that on the way there: some files here, some there.
    (place,) = ASIDE.glob("log_mel-*")
    (FEATURES / "log_mel/settings.json").unlink()
    (place / "noise-training.npy").rename(FEATURES / "log_mel/noise-training.npy")
    run_extract(features={"stride_ms": 10.0})
    assert shard_bytes() == before


def test_a_damaged_noise_is_refused_by_training_and_made_again(recordings):
    run_ingest()
    run_extract()
    damage(FEATURES / "log_mel/noise-training.npy", 500)
    with pytest.raises(
        UserError, match=r"noise-training.npy is missing or damaged; run 'earmark extract' to rebuild it"
    ):
        feature_shards.read_noise(FEATURES / "log_mel", "training")
    run_extract()
    assert len(feature_shards.read_noise(FEATURES / "log_mel", "training"))


def test_a_late_writer_of_other_settings_is_found_out(recordings, capfd):
    run_ingest()
    run_extract()
    (late,) = (FEATURES / "log_mel").glob("shard-*")
    content = late.read_bytes()
    run_extract(dataset={"padding": "reflect"})
    late.write_bytes(content)
    assert run_extract().startswith("1 of 1 shards were new")
    assert "is damaged; computing it again" in capfd.readouterr().err


def test_damage_inside_a_raw_shard_is_a_sentence(recordings):
    fill(recordings, {"yes/odd_nohash_0.wav": written("WAV", "FLOAT")})
    run_ingest()
    row = manifest().loc["yes/odd_nohash_0.wav"]
    damage(Path("data/raw") / row["shard"], row["offset"])
    with pytest.raises(
        UserError, match=f"{row['shard']} is damaged at byte {row['offset']} .*dvc checkout --force data/raw"
    ):
        run_extract()


def test_an_old_copy_of_the_raw_shards_is_refused(recordings):
    run_ingest()
    shutil.copytree("data/raw", "data/copy")
    fill(recordings, {"yes/new_nohash_0.wav": wav(50, 1.0)})
    run_ingest()
    places = {"raw": "data/copy", "features": "data/features"}
    with pytest.raises(UserError, match=r"extract.raw data/copy is an outdated copy of data/raw"):
        run_extract(extract=places)


@pytest.mark.parametrize(
    "address", ["localhost:8786", "tls://127.0.0.1:1", "tcp://host:port", "tcp://[::1", "inproc://x"]
)
def test_an_address_that_is_none_is_refused(recordings, monkeypatch, address):
    run_ingest()
    monkeypatch.setenv(environment.SCHEDULER, address)
    with pytest.raises(UserError, match=re.escape(f"{address!r} is not an address; expected tcp://host:port")):
        run_extract()


@pytest.mark.parametrize("place", ["gs://bucket/x", "foo://x", "s3:/bucket", "s3:bucket"])
def test_an_address_of_another_kind_is_refused(recordings, place):
    with pytest.raises(UserError, match="expected a folder or s3://bucket/prefix"):
        run_extract(extract={"raw": place, "features": "data/features"})


def damage(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: damage(path, 1),
        lambda path: damage(path, 5000),
        lambda path: damage(path, -1),
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(path.read_bytes() + b"\0"),
        lambda path: path.write_bytes(b""),
    ],
    ids=["header", "data", "checksum", "torn", "longer", "empty"],
)
def test_a_damaged_shard_is_refused_by_training_and_made_again_with_a_warning(recordings, capfd, spoil):
    run_ingest()
    run_extract()
    before = shard_bytes()
    (damaged,) = (FEATURES / "log_mel").glob("shard-*")
    spoil(damaged)
    with pytest.raises(UserError, match=f"{damaged.name} is damaged; run 'earmark extract' to rebuild it"):
        FeatureReader(FEATURES / "log_mel", manifest())
    assert run_extract().startswith("1 of 1 shards were new")
    assert f"warning: {damaged} is damaged; computing it again" in capfd.readouterr().err
    assert shard_bytes() == before


def test_settings_that_cannot_be_read_are_those_of_nobody(recordings):
    run_ingest()
    run_extract()
    before = shard_bytes()
    (FEATURES / "log_mel/settings.json").write_text("{")
    assert run_extract().startswith("1 of 1 shards were new")
    assert shard_bytes() == before


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"dataset": {"padding": "reflect"}}, "padding 'silence', not 'reflect'"),
        ({"features": {"stride_ms": 20.0}}, "stride_samples 160, not 320"),
    ],
)
def test_training_refuses_features_of_other_settings_naming_the_difference(recordings, change, difference):
    run_ingest()
    run_extract()
    change_params(Path(), change)
    with pytest.raises(UserError, match=f"log_mel was computed with {difference}; run 'dvc repro extract'"):
        train(params.load(), "tc_resnet")


def test_a_raw_shard_that_is_cut_short_or_gone_is_a_sentence(recordings):
    run_ingest()
    (shard,) = Path("data/raw").glob("*.tar")
    content = shard.read_bytes()
    shard.write_bytes(content[:-5000])
    with pytest.raises(UserError, match=f"{shard.name} ends before byte"):
        run_extract()
    shard.unlink()
    with pytest.raises(UserError, match=f"{shard.name} is missing; run 'dvc checkout'"):
        run_extract()
    shard.write_bytes(content)
    assert run_extract().startswith("1 of 1 shards were new")


def test_a_shard_that_holds_nothing_is_no_trouble(recordings):
    (FEATURES / "log_mel").mkdir(parents=True)
    run_ingest()
    members = pd.read_parquet("data/raw/manifest.parquet")
    members[:0].to_parquet("data/raw/manifest.parquet")
    assert run_extract() == "0 of 0 shards were new, as log_mel, spectrogram"


def test_forget_names_what_a_copy_of_the_raw_shards_still_holds(recordings, forget):
    run_ingest()
    shutil.copytree("data/raw", "data/copy")
    (shard,) = Path("data/copy").glob("*.tar")
    change_params(Path(), {"extract": {"raw": "data/copy", "features": "data/features"}})
    assert f"  {shard}\n" in forget("ben").stdout + "\n"
