"""What models are judged by: the clips of validation and testing, silence, and background noise that training has not
heard."""

import zlib
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from earmark.audio import background_noise, decode
from earmark.audio.padding import fit
from earmark.dataset import shards
from earmark.features.front_ends import FrontEnd
from earmark.params import SILENCE, Params
from earmark.paths import ACCEPTED, RAW

if TYPE_CHECKING:
    from earmark.models.model_folder import Classifier

SPLITS = ("validation", "testing")
SNR_DB = (20, 10, 5, 0)
"""Decibels by which background noise is below a clip, in mean power."""
NOISE_SEED = 1
"""Every model hears the same noise in the same clip."""


def judged_clips(params: Params) -> pd.DataFrame:
    """Accepted clips of validation and testing, and as many of silence beside them as dataset.silence_fraction says.

    The place of a clip of silence is that of the noise that it is cut from; `silence_gain` says how loud it is, and
    `silence_start` where it begins, from 0 to 1 of where it can.
    """
    accepted = shards.read_accepted(ACCEPTED).assign(silence_gain=np.nan, silence_start=np.nan)
    noise = noise_rows(params.dataset.sample_rate_hz)
    found = []
    for split in SPLITS:
        clips = accepted[accepted["split"] == split]
        count = round(params.dataset.silence_fraction * len(clips)) if len(noise) else 0
        found += [clips, _silences(noise, split, count, params.seed)] if count else [clips]
    return pd.concat(found, ignore_index=True)


def _silences(noise: pd.DataFrame, split: str, count: int, seed: int) -> pd.DataFrame:
    generator = np.random.default_rng([seed, zlib.crc32(split.encode())])
    chosen = generator.choice(len(noise), count, p=noise["seconds"] / noise["seconds"].sum())
    # Those of one recording stand together, which is decoded once for them.
    drawn = noise.iloc[np.sort(chosen)]
    return drawn[["shard", "offset", "length"]].assign(
        id=[f"{SILENCE}/{split}-{number:05}" for number in range(count)],
        speaker=drawn["id"],
        split=split,
        label=SILENCE,
        silence_gain=background_noise.silence_gains(count, generator),
        silence_start=generator.uniform(size=count),
    )


def training_clips(params: Params) -> int:
    """Clips of one epoch of training, silence among them."""
    clips = int((shards.read_accepted(ACCEPTED)["split"] == "training").sum())
    return clips + round(params.dataset.silence_fraction * clips)


def reporting_split(clips: pd.DataFrame) -> str:
    """The split that figures are of: testing, or validation where there is no test split."""
    return "testing" if (clips["split"] == "testing").any() else "validation"


def noise_rows(sample_rate_hz: int) -> pd.DataFrame:
    """The manifest's rows of background noise that can be decoded; not of hours that are too much at this rate."""
    members = shards.read_members(RAW)
    noise = members[~members["retired"] & (members["split"] == shards.NOISE) & (members["error"] == "")]
    return noise[noise["seconds"] * sample_rate_hz <= decode.MAX_SAMPLES]


def noise_of(split: str, sample_rate_hz: int) -> list[np.ndarray]:
    """What `split` hears of each recording of background noise, float32 (samples,)."""
    contents = shards.read_recordings(RAW, noise_rows(sample_rate_hz))
    # A copy, which does not keep the rest of the recording in memory.
    return [background_noise.part(decode.mono(content, sample_rate_hz), split).copy() for content in contents]


def predict_clips(classifier: "Classifier", clips: pd.DataFrame, snr_db: Sequence[int] = ()) -> pd.DataFrame:
    """id, speaker, split, label of judged clips, and what a classifier says of them: predicted, probability; and of
    each with background noise `snr_db` below it, `predicted_at_<snr>_db`, where there is noise as long as a clip."""
    parts = [_predicted(classifier, of_split, snr_db) for _, of_split in clips.groupby("split", sort=False)]
    return pd.concat(parts).loc[clips.index]


def _predicted(classifier: "Classifier", clips: pd.DataFrame, snr_db: Sequence[int]) -> pd.DataFrame:
    """The same of one split."""
    from earmark.models.inference import BLOCK_CLIPS

    labels, length = np.array(classifier.labels, dtype=object), classifier.front_end.clip_samples
    noise = noise_of(clips["split"].iloc[0], classifier.front_end.sample_rate_hz) if snr_db else []
    long = [each for each in noise if len(each) >= length]
    generator = np.random.default_rng(NOISE_SEED)
    said, in_noise = [], {snr: [] for snr in snr_db if long}
    for block in waveforms(clips, classifier.front_end, BLOCK_CLIPS):
        said.append(np.asarray(classifier.model.predict_on_batch(block)))
        pieces = background_noise.stretches(long, length, len(block), generator) if in_noise else None
        for snr, found in in_noise.items():
            heard = background_noise.mixed(block, pieces, snr)
            found.append(labels[np.asarray(classifier.model.predict_on_batch(heard)).argmax(axis=1)])
    probabilities = np.concatenate(said)
    columns = {f"predicted_at_{snr}_db": np.concatenate(found) for snr, found in in_noise.items()}
    return clips[["id", "speaker", "split", "label"]].assign(
        predicted=labels[probabilities.argmax(axis=1)], probability=probabilities.max(axis=1), **columns
    )


def waveforms(clips: pd.DataFrame, front_end: FrontEnd, block_clips: int) -> Iterator[np.ndarray]:
    """Judged clips as a model with this front end hears them, float32 (clips, samples), `block_clips` at a time."""
    heard = front_end.sample_rate_hz, front_end.clip_samples, front_end.padding
    is_silence = clips["silence_gain"].notna()
    recordings = shards.read_recordings(RAW, clips[~is_silence])
    silences = _silences_of(clips[is_silence], front_end)
    for first in range(0, len(clips), block_clips):
        block = is_silence.iloc[first : first + block_clips]
        yield np.stack([next(silences) if silent else decode.clip(next(recordings), *heard) for silent in block])


def _silences_of(clips: pd.DataFrame, front_end: FrontEnd) -> Iterator[np.ndarray]:
    """Clips of silence, (samples,); a recording of noise is read once for all clips of it that stand together."""
    length = front_end.clip_samples
    for (_, split), together in groupby(clips.itertuples(index=False), lambda row: (row.speaker, row.split)):
        rows = list(together)
        (content,) = shards.read_recordings(RAW, pd.DataFrame(rows[:1]))
        noise = background_noise.part(decode.mono(content, front_end.sample_rate_hz), split)
        for row in rows:
            start = int(row.silence_start * max(0, len(noise) - length))
            yield fit(noise[start : start + length], length, front_end.padding) * np.float32(row.silence_gain)
