"""Generates the background noise of the synthetic data set."""

from typing import TYPE_CHECKING

from earmark.dataset.sources import synthetic_espeak

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Signal = npt.NDArray[np.float64]

PINK_EXPONENT = 1.0
BROWN_EXPONENT = 2.0
_COLOUR_STARTS_AT_HZ = 40.0
_BABBLE_VOICES = 12
# Everyday sentences that contain none of the data set's words.
_TALK = (
    "Could somebody open a window, please? It gets quite warm in here around lunchtime.",
    "They moved the meeting again, so we have another week for finishing those drawings.",
    "My sister bought fresh bread, some cheese, olives and a basket full of strawberries.",
    "Every morning the same train is late, although nobody can explain why it should be.",
    "The children painted a large blue ship, and afterwards everyone wanted lemonade.",
)


def coloured(generator: "np.random.Generator", count: int, sample_rate_hz: int, exponent: float) -> "Signal":
    """Return noise, float64 (count,), of root mean square 1, whose power falls as frequency ** -exponent.

    Exponent 0 is white, 1 pink, 2 brown. There is no power below 40 Hz.
    """
    import numpy as np

    spectrum = np.fft.rfft(generator.standard_normal(count))
    frequency_hz = np.fft.rfftfreq(count, 1 / sample_rate_hz)
    gain = np.maximum(frequency_hz, _COLOUR_STARTS_AT_HZ) ** (-exponent / 2)
    return _unit_rms(np.fft.irfft(spectrum * gain * (frequency_hz >= _COLOUR_STARTS_AT_HZ), count))


def babble(generator: "np.random.Generator", count: int, sample_rate_hz: int, voices: tuple[str, ...]) -> "Signal":
    """Return (count,) of root mean square 1: many voices talking at once, near and far.

    Raises:
        UserError: espeak-ng does not run on this platform.
    """
    import numpy as np
    import soxr

    chosen = generator.choice(voices, _BABBLE_VOICES, replace=False)
    mixture = np.zeros(count)
    for talk in synthetic_espeak.speak([_talk(generator, voice) for voice in chosen]):
        speech = soxr.resample(talk / 32_768, synthetic_espeak.SAMPLE_RATE_HZ, sample_rate_hz)
        distance_gain = 10 ** (generator.uniform(-12, 0) / 20)
        start = int(generator.integers(len(speech)))
        mixture += distance_gain * np.resize(np.roll(_unit_rms(speech), -start), count)
    return _unit_rms(_unit_rms(mixture) + 0.05 * coloured(generator, count, sample_rate_hz, PINK_EXPONENT))


def _talk(generator: "np.random.Generator", voice: str) -> synthetic_espeak.Utterance:
    return synthetic_espeak.Utterance(
        text=" ".join(generator.permutation(_TALK)),
        voice=str(voice),
        rate_wpm=int(generator.integers(140, 200)),
        pitch=int(generator.integers(35, 66)),
        pitch_range=int(generator.integers(35, 76)),
    )


def ventilation(generator: "np.random.Generator", count: int, sample_rate_hz: int) -> "Signal":
    """Return (count,) of root mean square 1: pink noise whose level slowly varies by about 4 dB."""
    import numpy as np

    swell_db = 2 * np.sin(_phase(generator, count, sample_rate_hz, frequency_hz=generator.uniform(0.1, 0.25)))
    return _unit_rms(coloured(generator, count, sample_rate_hz, PINK_EXPONENT) * 10 ** (swell_db / 20))


def mains_hum(generator: "np.random.Generator", count: int, sample_rate_hz: int) -> "Signal":
    """Return (count,) of root mean square 1: 50 or 60 Hz with harmonics, odd ones stronger, over brown noise."""
    import numpy as np

    mains_hz = generator.choice([50.0, 60.0])
    hum = np.zeros(count)
    for harmonic in range(1, 16):
        amplitude = generator.uniform(0.5, 1.0) / harmonic * (1.0 if harmonic % 2 else 0.4)
        hum += amplitude * np.sin(_phase(generator, count, sample_rate_hz, harmonic * mains_hz))
    return _unit_rms(_unit_rms(hum) + 0.5 * coloured(generator, count, sample_rate_hz, BROWN_EXPONENT))


def machinery(generator: "np.random.Generator", count: int, sample_rate_hz: int) -> "Signal":
    """Return (count,) of root mean square 1: two or three uneven taps a second over a motor's low noise."""
    import numpy as np

    motor = coloured(generator, count, sample_rate_hz, BROWN_EXPONENT)
    taps = np.zeros(count)
    period_seconds = generator.uniform(0.35, 0.5)
    at_seconds = generator.uniform(0, period_seconds)
    while (start := int(at_seconds * sample_rate_hz)) < count:
        tap = _tap(generator, sample_rate_hz)[: count - start]
        taps[start : start + len(tap)] += tap
        at_seconds += period_seconds * generator.uniform(0.9, 1.1)
    return _unit_rms(_unit_rms(taps) + 0.5 * motor)


def _tap(generator: "np.random.Generator", sample_rate_hz: int) -> "Signal":
    import numpy as np

    count = sample_rate_hz // 4
    time_seconds = np.arange(count) / sample_rate_hz
    ring = np.zeros(count)
    for frequency_hz in (210.0, 560.0, 1_350.0, 2_900.0):
        detuned_hz = frequency_hz * generator.uniform(0.97, 1.03)
        ring += generator.uniform(0.3, 1.0) * np.sin(2 * np.pi * detuned_hz * time_seconds)
    click = coloured(generator, count, sample_rate_hz, exponent=0.0) * np.exp(-time_seconds / 0.004)
    return generator.uniform(0.6, 1.0) * (ring * np.exp(-time_seconds / 0.03) + click)


def _phase(generator: "np.random.Generator", count: int, sample_rate_hz: int, frequency_hz: float) -> "Signal":
    import numpy as np

    phase: Signal = generator.uniform(0, 2 * np.pi) + 2 * np.pi * frequency_hz * np.arange(count) / sample_rate_hz
    return phase


def _unit_rms(signal: "Signal") -> "Signal":
    import numpy as np

    scaled: Signal = signal / np.sqrt(np.mean(np.square(signal)))
    return scaled
