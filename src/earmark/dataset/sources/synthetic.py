"""The synthetic data set: the words of Speech Commands, spoken by espeak-ng in generated voices.

It needs no download, and a seed always gives the same bytes. Use it to learn the tools, for demonstrations and for
tests; a classifier trained on it does not recognise human speech.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from earmark.dataset.layout import NOISE_FOLDER
from earmark.dataset.sources import synthetic_espeak, synthetic_noise
from earmark.dataset.sources.source import Context, Source, fixed_source
from earmark.dataset.splits import speaker_split

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from earmark.dataset.sources.synthetic_noise import Signal

    Word = npt.NDArray[np.float32]

SAMPLE_RATE_HZ = 16_000
# fmt: off
LABELS = (
    "bed", "bird", "cat", "dog", "down", "eight", "five", "four", "go", "happy", "house", "left", "marvin", "nine",
    "no", "off", "on", "one", "right", "seven", "sheila", "six", "stop", "three", "tree", "two", "up", "wow", "yes",
    "zero",
)

# Files of espeak-ng-data/lang.
_ACCENTS = (
    "gmw/en", "gmw/en-US", "gmw/en-GB-scotland", "gmw/en-GB-x-rp", "gmw/en-GB-x-gbclan", "gmw/en-GB-x-gbcwmd",
    "gmw/en-029", "gmw/en-US-nyc",
)
# Files of espeak-ng-data/voices/!v, without robots, whispers, creaks, strong echo, and voices that overload.
_VARIANTS = (
    "Alex", "Alicia", "Annie", "Denis", "Diogo", "Hugo", "Mario", "Michael", "Mike", "Nguyen", "adam", "announcer",
    "aunty", "belinda", "benjamin", "david", "edward2", "f1", "f2", "f3", "f4", "f5", "grandma", "grandpa", "ian",
    "klatt6", "linda", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "max", "quincy", "rob", "robert", "victor",
)
# fmt: on

# Increase it when the same seed gives other bytes.
_VERSION = 1

# Twenty speakers: 14 for training, 3 for validation, 3 for test; each split has one among the first six.
_SPLITS = tuple({"t": "training", "v": "validation", "e": "test"}[letter] for letter in "ttvttetttvttetttvtte")

# Separate streams of random numbers, so that no stream depends on how much another has drawn.
_VOICES, _SPEAKER, _CLIP, _NOISE = range(4)

_SHORT_CLIPS = 0.1
_SHORT_SECONDS = (0.6, 0.98)
_MARGIN_SECONDS = 0.02
_FADE_SECONDS = 0.005
_SILENCE = 10 ** (-50 / 20)
_PEAK = 10 ** (-1 / 20)


def open_source(address: str, context: Context) -> Source | None:
    """Return the data set of a seed and a number of speakers; None for other addresses than "synthetic".

    Raises:
        UserError: espeak-ng's package is not installed.
    """
    if address != "synthetic":
        return None
    seed, speakers = context.seed, context.speakers
    return fixed_source("synthetic", fingerprint(seed, speakers), partial(entries, seed, speakers))


def fingerprint(seed: int, speakers: int) -> str:
    """Return what identifies the data set: the version of this module and of espeak-ng's package, and the arguments.

    Raises:
        UserError: espeak-ng's package is not installed.
    """
    version = synthetic_espeak.package_version()
    return f"synthetic {_VERSION}, espeakng-loader {version}, seed {seed}, speakers {speakers}"


def entries(seed: int, speakers: int) -> Iterator[tuple[str, bytes]]:
    """Yield (POSIX path relative to the data set's root, content), sorted by path.

    Each speaker says each of ``LABELS`` once, in up to one second; four recordings of background noise come with them.
    All are WAV, 16 bit, mono, ``SAMPLE_RATE_HZ``. Takes about 1 MB of memory per speaker.

    Args:
        seed: 0 or more; the same seed gives the same bytes.
        speakers: 1 or more; adding speakers does not change the others. From 6 on, every split by speaker has one.

    Raises:
        UserError: espeak-ng does not run on this platform.
    """
    yield from _noises(seed)
    cast = sorted(_cast(seed, speakers), key=lambda speaker: speaker.id)
    words = {speaker.id: _speak(seed, speaker) for speaker in cast}
    for number, label in enumerate(LABELS):
        for speaker in cast:
            signal = _clip(_generator(seed, _CLIP, speaker.index, number), speaker, words[speaker.id][number])
            yield f"{label}/{speaker.id}_nohash_0.wav", _wav(signal)


@dataclass(frozen=True)
class _Speaker:
    """A speaker in a room: voice as in ``Utterance``, level, signal-to-noise ratio, exponent of the noise spectrum."""

    index: int
    id: str
    voice: str
    rate_wpm: int
    pitch: int
    pitch_range: int
    level_dbfs: float
    snr_db: float
    noise_exponent: float


def _generator(seed: int, stream: int, index: int = 0, part: int = 0) -> "np.random.Generator":
    import numpy as np

    return np.random.default_rng([seed, stream, index, part])


def _cast(seed: int, speakers: int) -> list[_Speaker]:
    taken: set[str] = set()
    cast = []
    for index in range(speakers):
        generator = _generator(seed, _SPEAKER, index)
        cast.append(_draw_speaker(generator, index, _draw_id(generator, index, taken), _variant(seed, index)))
    return cast


def _draw_id(generator: "np.random.Generator", index: int, taken: set[str]) -> str:
    split = _SPLITS[index % len(_SPLITS)]
    while True:
        speaker = f"{generator.integers(2**32):08x}"
        if speaker_split(speaker) == split and speaker not in taken:
            taken.add(speaker)
            return speaker


def _variant(seed: int, index: int) -> str:
    # Each variant occurs once before any repeats.
    turn, place = divmod(index, len(_VARIANTS))
    return _VARIANTS[_generator(seed, _VOICES, turn).permutation(len(_VARIANTS))[place]]


def _draw_speaker(generator: "np.random.Generator", index: int, speaker: str, variant: str) -> _Speaker:
    return _Speaker(
        index=index,
        id=speaker,
        voice=f"{generator.choice(_ACCENTS)}+{variant}",
        rate_wpm=int(generator.integers(130, 186)),
        pitch=int(generator.integers(32, 69)),
        pitch_range=int(generator.integers(30, 81)),
        level_dbfs=generator.uniform(-32, -18),
        snr_db=generator.uniform(18, 37),
        noise_exponent=generator.uniform(0.5, synthetic_noise.BROWN_EXPONENT),
    )


def _speak(seed: int, speaker: _Speaker) -> list["Word"]:
    """Return each word of ``LABELS``, trimmed: float32 at ``SAMPLE_RATE_HZ``."""
    import soxr

    generator = _generator(seed, _SPEAKER, speaker.index, part=1)
    spoken = synthetic_espeak.speak([_utterance(generator, speaker, label) for label in LABELS])
    return [
        _trim(soxr.resample(word.astype("float32") / 32_768, synthetic_espeak.SAMPLE_RATE_HZ, SAMPLE_RATE_HZ))
        for word in spoken
    ]


def _utterance(generator: "np.random.Generator", speaker: _Speaker, label: str) -> synthetic_espeak.Utterance:
    # Nobody says two words in quite the same way.
    return synthetic_espeak.Utterance(
        text=label,
        voice=speaker.voice,
        rate_wpm=speaker.rate_wpm + int(generator.integers(-10, 11)),
        pitch=speaker.pitch + int(generator.integers(-4, 5)),
        pitch_range=speaker.pitch_range + int(generator.integers(-10, 11)),
    )


def _trim(word: "Word") -> "Word":
    import numpy as np

    level = np.abs(word)
    loud = np.flatnonzero(level > _SILENCE * level.max())
    # The slowest word seen so far lasts 0.8 s; the limit guarantees one second for all others.
    longest = int((1 - 2 * _MARGIN_SECONDS) * SAMPLE_RATE_HZ)
    return _fade(word[loud[0] : loud[-1] + 1][:longest])


def _fade(word: "Word") -> "Word":
    import numpy as np

    ramp = np.linspace(0, 1, int(_FADE_SECONDS * SAMPLE_RATE_HZ), dtype=word.dtype)
    faded = word.copy()
    faded[: len(ramp)] *= ramp
    faded[-len(ramp) :] *= ramp[::-1]
    return faded


def _clip(generator: "np.random.Generator", speaker: _Speaker, word: "Word") -> "Signal":
    """Return a word at a random position in its speaker's room: float64 (samples,), full scale 1."""
    import numpy as np

    count = _clip_samples(generator, len(word))
    margin = int(_MARGIN_SECONDS * SAMPLE_RATE_HZ)
    onset = int(generator.integers(margin, count - margin - len(word) + 1))
    snr_db = speaker.snr_db + generator.uniform(-3, 3)
    clip = synthetic_noise.coloured(generator, count, SAMPLE_RATE_HZ, speaker.noise_exponent) * 10 ** (-snr_db / 20)
    clip[onset : onset + len(word)] += word / np.sqrt(np.mean(np.square(word)))
    return _at_level(clip, speaker.level_dbfs + generator.uniform(-2, 2))


def _clip_samples(generator: "np.random.Generator", word_samples: int) -> int:
    short = generator.random() < _SHORT_CLIPS
    seconds = generator.uniform(*_SHORT_SECONDS) if short else 1.0
    return max(int(seconds * SAMPLE_RATE_HZ), word_samples + 2 * int(_MARGIN_SECONDS * SAMPLE_RATE_HZ))


def _at_level(signal: "Signal", level_dbfs: float) -> "Signal":
    """Scale a signal of level 0 dBFS to a level, or to the highest below it that keeps peaks under -1 dBFS."""
    import numpy as np

    scaled: Signal = signal * min(10 ** (level_dbfs / 20), _PEAK / np.abs(signal).max())
    return scaled


def _noises(seed: int) -> Iterator[tuple[str, bytes]]:
    voices = tuple(f"gmw/en+{variant}" for variant in _VARIANTS)
    makers: dict[str, Callable[[np.random.Generator, int, int], Signal]] = {
        "babble": partial(synthetic_noise.babble, voices=voices),
        "machinery": synthetic_noise.machinery,
        "mains_hum": synthetic_noise.mains_hum,
        "ventilation": synthetic_noise.ventilation,
    }
    for number, (name, make) in enumerate(makers.items()):
        generator = _generator(seed, _NOISE, number)
        count = int(generator.uniform(10, 20) * SAMPLE_RATE_HZ)
        signal = make(generator, count, SAMPLE_RATE_HZ)
        yield f"{NOISE_FOLDER}/{name}.wav", _wav(_at_level(signal, generator.uniform(-30, -22)))


def _wav(signal: "Signal") -> bytes:
    import io
    import wave

    import numpy as np

    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(SAMPLE_RATE_HZ)
        writer.writeframes(np.round(signal * 32_767).astype("<i2").tobytes())
    return file.getvalue()
