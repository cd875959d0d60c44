"""The clips that models are evaluated on: those of validation and test, silence, and noise that training never used."""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from earmark.audio import background_noise, decode
from earmark.audio.padding import fit
from earmark.dataset import shards
from earmark.errors import UserError
from earmark.evaluation import noise
from earmark.features.front_ends import FrontEnd
from earmark.params import SILENCE, Params
from earmark.paths import ACCEPTED, RAW

if TYPE_CHECKING:
    from earmark.models.model_folder import Classifier

SPLITS = ("validation", "test")
ROW = ["id", "speaker", "split", "label"]
NOISE_SEED = 1
"""Fixed, so that every model gets the same noise in the same clip."""


@dataclass(frozen=True)
class Silence:
    """A clip without a word, cut from a recording of background noise.

    Attributes:
        recording: id of the noise recording.
        start: where the clip begins, from 0 to 1 of the positions that the recording allows.
        gain: factor on the samples, 0 for digital silence.
    """

    id: str
    split: str
    recording: str
    start: float
    gain: float


@dataclass(frozen=True)
class TestSet:
    """Recorded clips, clips of silence and background noise of the validation and test splits.

    Attributes:
        clips: accepted rows of the manifest.
        silences: in the order in which they are evaluated, after the recorded clips of their split.
        noise_recordings: rows of the manifest.
        folder: the folder of the shards with the bytes of both.
    """

    __test__ = False  # pytest: this is no test

    clips: pd.DataFrame
    silences: tuple[Silence, ...]
    noise_recordings: pd.DataFrame
    folder: Path
    _noise_by_rate: dict[int, dict[str, dict[str, np.ndarray]]] = field(default_factory=dict)

    @property
    def rows(self) -> pd.DataFrame:
        """id, speaker, split and label of every clip; the "speaker" of silence is its noise recording."""
        silences = pd.DataFrame([(s.id, s.recording, s.split, SILENCE) for s in self.silences], columns=ROW)
        rows = pd.concat([self.clips[ROW], silences.astype("str")], ignore_index=True)
        return pd.concat([rows[rows["split"] == split] for split in SPLITS], ignore_index=True)

    @property
    def reporting_split(self) -> str:
        """The split that reported figures are of: test, or validation if there is no test split."""
        return reporting_split(self.clips)

    def restricted_to(self, split: str, labels: Sequence[str] | None = None) -> "TestSet":
        """The clips of one split, and of these labels alone where `labels` are given."""
        clips = self.clips[self.clips["split"] == split]
        with_silence = labels is None or SILENCE in labels
        silences = tuple(s for s in self.silences if s.split == split and with_silence)
        return replace(self, clips=clips if labels is None else clips[clips["label"].isin(labels)], silences=silences)

    def noise(self, split: str, sample_rate_hz: int) -> list[np.ndarray]:
        """The part of each noise recording that `split` may use, float32 (samples,). Decoded once for each rate."""
        return list(self._noise(sample_rate_hz)[split].values())

    def waveforms(self, ids: Iterable[str], front_end: FrontEnd) -> Iterator[np.ndarray]:
        """Clips by id, as a model with this front end gets them: float32 (samples,), one at a time."""
        ids, silences = list(ids), {silence.id: silence for silence in self.silences}
        recorded = self.clips.set_index("id").loc[[clip for clip in ids if clip not in silences]]
        contents = shards.read_recordings(self.folder, recorded)
        for clip in ids:
            if clip in silences:
                yield self._silence(silences[clip], front_end)
                continue
            with self._damage_named(clip):
                waveform = decode.clip(
                    next(contents), front_end.sample_rate_hz, front_end.clip_samples, front_end.padding
                )
            yield waveform

    def predictions(self, classifier: "Classifier", snr_db: Sequence[int] = ()) -> pd.DataFrame:
        """Returns the columns of `rows`, and `predicted`, `probability` (0 to 1), and `noise.column(snr)` for each of
        `snr_db`: the label predicted with background noise that many decibels below the clip.

        A split without noise as long as a clip has no such columns.
        """
        by_split = self.rows.groupby("split", sort=False)
        return pd.concat([self._predictions(rows, classifier, snr_db) for _, rows in by_split])

    def _predictions(self, rows: pd.DataFrame, classifier: "Classifier", snr_db: Sequence[int]) -> pd.DataFrame:
        from earmark.models.inference import BLOCK_CLIPS

        labels, front_end = np.array(classifier.labels, dtype=object), classifier.front_end
        recordings = self.noise(rows["split"].iloc[0], front_end.sample_rate_hz) if snr_db else []
        recordings = [recording for recording in recordings if len(recording) >= front_end.clip_samples]
        generator = np.random.default_rng(NOISE_SEED)
        probabilities: list[np.ndarray] = []
        in_noise: dict[int, list[np.ndarray]] = {snr: [] for snr in snr_db if recordings}
        waveforms = self.waveforms(rows["id"], front_end)
        while block := list(islice(waveforms, BLOCK_CLIPS)):
            clips = np.stack(block)
            probabilities.append(np.asarray(classifier.model.predict_on_batch(clips)))
            if not in_noise:
                continue
            pieces = background_noise.draw_segments(recordings, front_end.clip_samples, len(clips), generator)
            for snr, predicted in in_noise.items():
                noisy = np.asarray(classifier.model.predict_on_batch(background_noise.mix(clips, pieces, snr)))
                predicted.append(labels[noisy.argmax(axis=1)])
        clean = np.concatenate(probabilities)
        columns = {noise.column(snr): np.concatenate(predicted) for snr, predicted in in_noise.items()}
        return rows.assign(predicted=labels[clean.argmax(axis=1)], probability=clean.max(axis=1), **columns)

    def _noise(self, sample_rate_hz: int) -> dict[str, dict[str, np.ndarray]]:
        """Split -> id of the recording -> its part. Recordings that are too long once resampled are left out."""
        if sample_rate_hz not in self._noise_by_rate:
            rows = decodable(self.noise_recordings, sample_rate_hz)
            parts: dict[str, dict[str, np.ndarray]] = {split: {} for split in SPLITS}
            for name, content in zip(rows["id"], shards.read_recordings(self.folder, rows), strict=True):
                with self._damage_named(name):
                    recording = decode.mono(content, sample_rate_hz)
                for split in SPLITS:
                    # A copy does not keep the rest of the recording in memory.
                    parts[split][name] = background_noise.split_portion(recording, split).copy()
            self._noise_by_rate[sample_rate_hz] = parts
        return self._noise_by_rate[sample_rate_hz]

    @contextmanager
    def _damage_named(self, recording: str) -> Iterator[None]:
        """Turns the failure to decode what ingestion could decode into one sentence."""
        try:
            yield
        except decode.DecodeError as error:
            raise UserError(
                f"{recording} in {self.folder} is damaged ({error}); 'dvc checkout --force {self.folder}' restores it"
            ) from None

    def _silence(self, silence: Silence, front_end: FrontEnd) -> np.ndarray:
        parts, length = self._noise(front_end.sample_rate_hz)[silence.split], front_end.clip_samples
        if silence.recording not in parts:
            raise UserError(
                f"{silence.recording} is too long at {front_end.sample_rate_hz} Hz;"
                f" expected at most {decode.MAX_SAMPLES} samples"
            )
        part = parts[silence.recording]
        start = int(silence.start * max(0, len(part) - length))
        return fit(part[start : start + length], length, front_end.padding) * np.float32(silence.gain)


def read(params: Params) -> TestSet:
    """The accepted clips, as many clips of silence as dataset.silence_fraction asks for, and the noise recordings.

    Raises:
        UserError: data/accepted.parquet or the manifest is missing.
    """
    accepted, members = shards.read_accepted(ACCEPTED), shards.read_members(RAW)
    is_noise = ~members["retired"] & (members["split"] == shards.NOISE) & (members["error"] == "")
    recordings = members[is_noise]
    usable = decodable(recordings, params.dataset.sample_rate_hz)
    silences: list[Silence] = []
    for split in SPLITS:
        count = round(params.dataset.silence_fraction * int((accepted["split"] == split).sum())) if len(usable) else 0
        silences += _silences(usable, split, count, params.seed) if count else []
    return TestSet(accepted[accepted["split"].isin(SPLITS)].reset_index(drop=True), tuple(silences), recordings, RAW)


def reporting_split(clips: pd.DataFrame) -> str:
    """The split of `clips` that figures are of: test, or validation if there is no test split."""
    return "test" if (clips["split"] == "test").any() else "validation"


def decodable(noise_recordings: pd.DataFrame, sample_rate_hz: int) -> pd.DataFrame:
    """The rows that are at most decode.MAX_SAMPLES long at this rate."""
    return noise_recordings[noise_recordings["seconds"] * sample_rate_hz <= decode.MAX_SAMPLES]


def _silences(recordings: pd.DataFrame, split: str, count: int, seed: int) -> list[Silence]:
    generator = np.random.default_rng([seed, zlib.crc32(split.encode())])
    chosen = generator.choice(len(recordings), count, p=recordings["seconds"] / recordings["seconds"].sum())
    names = recordings["id"].iloc[np.sort(chosen)]
    gains, starts = background_noise.draw_silence_gains(count, generator), generator.uniform(size=count)
    return [
        Silence(f"{SILENCE}/{split}-{number:05}", split, name, float(start), float(gain))
        for number, (name, start, gain) in enumerate(zip(names, starts, gains, strict=True))
    ]
