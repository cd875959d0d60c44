"""The embedded data set: the words of Speech Commands, spoken on the spot by espeak-ng in invented voices.

It needs no download and is the same to the byte for a seed. It is for learning the tools, for demonstrations and for
tests; a classifier trained on it knows no human speech.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from earmark.dataset.layout import NOISE_FOLDER
from earmark.dataset.sources import synthetic_espeak, synthetic_noise
from earmark.dataset.splits import speaker_split

if TYPE_CHECKING:
    import numpy as np

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
# Files of espeak-ng-data/voices/!v, without robots, whispers, creaks, strong echo, and those that overload.
_VARIANTS = (
    "Alex", "Alicia", "Annie", "Denis", "Diogo", "Hugo", "Mario", "Michael", "Mike", "Nguyen", "adam", "announcer",
    "aunty", "belinda", "benjamin", "david", "edward2", "f1", "f2", "f3", "f4", "f5", "grandma", "grandpa", "ian",
    "klatt6", "linda", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "max", "quincy", "rob", "robert", "victor",
)
# fmt: on

# Raised when the same seed gives other bytes than before.
_VERSION = 1

# Twenty speakers: 14 train, 3 validate, 3 test, and each split has one among the first six.
_SPLITS = tuple({"t": "training", "v": "validation", "e": "testing"}[letter] for letter in "ttvttetttvttetttvtte")

# Streams of random numbers, so that none depends on how much another has drawn.
_VOICES, _SPEAKER, _CLIP, _NOISE = range(4)

_SHORT_CLIPS = 0.1
_SHORT_SECONDS = (0.6, 0.98)
_MARGIN_SECONDS = 0.02
_FADE_SECONDS = 0.005
_SILENCE = 10 ** (-50 / 20)
_PEAK = 10 ** (-1 / 20)


def fingerprint(seed: int, speakers: int) -> str:
    """Return what identifies the data set: generator, its version, that of espeak-ng's package, the arguments.

    Raises:
        UserError: espeak-ng's package is not installed.
    """
    version = synthetic_espeak.package_version()
    return f"synthetic {_VERSION}, espeakng-loader {version}, seed {seed}, speakers {speakers}"


def entries(seed: int, speakers: int) -> Iterator[tuple[str, bytes]]:
    """Yield (POSIX path relative to the data set's root, file bytes), sorted by path.

    There is each of ``LABELS`` once by each speaker, up to one second long, and four recordings of background noise;
    all WAV, 16 bit, mono, ``SAMPLE_RATE_HZ``. About 1 MB of speech a speaker is held in memory.

    Args:
        seed: 0 or more; the same gives the same bytes.
        speakers: 1 or more; with more, those that were there stay as they were. From 6 on, the splits by speaker
            ("training", "validation", "testing") all have a speaker.

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
    """A person and the room around: voice as in ``Utterance``, loudness, signal-to-noise ratio, the noise's colour."""

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
    wished = _SPLITS[index % len(_SPLITS)]
    while True:
        speaker = f"{generator.integers(2**32):08x}"
        if speaker_split(speaker) == wished and speaker not in taken:
            taken.add(speaker)
            return speaker


def _variant(seed: int, index: int) -> str:
    # Each variant once before any comes again.
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


def _speak(seed: int, speaker: _Speaker) -> list["np.ndarray"]:
    """Return each word of ``LABELS``, trimmed: float32 at ``SAMPLE_RATE_HZ``."""
    import soxr

    generator = _generator(seed, _SPEAKER, speaker.index, part=1)
    spoken = synthetic_espeak.speak([_utterance(generator, speaker, label) for label in LABELS])
    return [
        _trim(soxr.resample(word.astype("float32") / 32_768, synthetic_espeak.SAMPLE_RATE_HZ, SAMPLE_RATE_HZ))
        for word in spoken
    ]


def _utterance(generator: "np.random.Generator", speaker: _Speaker, label: str) -> synthetic_espeak.Utterance:
    # Nobody says two words alike.
    return synthetic_espeak.Utterance(
        text=label,
        voice=speaker.voice,
        rate_wpm=speaker.rate_wpm + int(generator.integers(-10, 11)),
        pitch=speaker.pitch + int(generator.integers(-4, 5)),
        pitch_range=speaker.pitch_range + int(generator.integers(-10, 11)),
    )


def _trim(word: "np.ndarray") -> "np.ndarray":
    import numpy as np

    level = np.abs(word)
    loud = np.flatnonzero(level > _SILENCE * level.max())
    # The slowest word met lasts 0.8 s; the limit keeps the promise of one second for any that no one has met.
    longest = int((1 - 2 * _MARGIN_SECONDS) * SAMPLE_RATE_HZ)
    return _fade(word[loud[0] : loud[-1] + 1][:longest])


def _fade(word: "np.ndarray") -> "np.ndarray":
    import numpy as np

    ramp = np.linspace(0, 1, int(_FADE_SECONDS * SAMPLE_RATE_HZ), dtype=word.dtype)
    faded = word.copy()
    faded[: len(ramp)] *= ramp
    faded[-len(ramp) :] *= ramp[::-1]
    return faded


def _clip(generator: "np.random.Generator", speaker: _Speaker, word: "np.ndarray") -> "np.ndarray":
    """Return a word at a random place in its speaker's room, full scale being 1: (samples,) float64."""
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


def _at_level(signal: "np.ndarray", level_dbfs: float) -> "np.ndarray":
    """Return a signal whose level is 0 dBFS at a level, or at the highest below it that keeps peaks under -1 dBFS."""
    import numpy as np

    return signal * min(10 ** (level_dbfs / 20), _PEAK / np.abs(signal).max())


def _noises(seed: int) -> Iterator[tuple[str, bytes]]:
    voices = tuple(f"gmw/en+{variant}" for variant in _VARIANTS)
    makers = {
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


def _wav(signal: "np.ndarray") -> bytes:
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
