"""What evaluate would tell the report, made up: realistic numbers for any labels."""

import io
import wave

import numpy as np
import pandas as pd

from earmark.reporting.html.page import CandidateScores, Mistake, render

WORDS = [
    *("bed", "bird", "cat", "dog", "down", "eight", "five", "four", "go", "happy", "house", "left", "marvin", "nine"),
    *("no", "off", "on", "one", "right", "seven", "sheila", "six", "stop", "three", "tree", "two", "up", "wow", "yes"),
    *("zero", "backward", "follow", "forward", "learn", "visual"),
]
HOSTILE = [
    "</script><script>alert(1)</script>",
    "<b>bold</b><br>&amp;",
    "\"quotes' %{x} $a$ {{ 7 * 7 }}",
    "grüß gott 你好 🎺 \u202eright to left\u2028line",
    "__proto__",
    "1",
    "<!--",
    "a name that is far longer than any chart has room for, and then some",
]
DATA = {"source": "synthetic", "clips": "5,130", "quarantined": "12"}
VALIDATION = {
    "sentence": "5130 clips accepted, 1 quarantined",
    "rules": [
        {"suite": "clips", "rule": "decodable", "success": False, "observed": "<i>1 of 5131</i>", "failed": 5}
        | {"failed_ids": ["yes/<b>_nohash_0.wav", "b.wav", "c.wav", "d.wav", "e.wav"]},
        {"suite": "data set", "rule": "at least 20 clips of each label", "success": True, "observed": "140 to 150"}
        | {"failed": 0, "failed_ids": []},
    ],
    "quarantine": [{"id": "yes/<b>_nohash_0.wav", "reason": "not decodable: no samples"}],
}
PROVENANCE = {"git commit": "0f3a9c1d", "data/raw": "9e107d9d372bb6826bd81d3542a419d6.dir"}
SAMPLE_RATE_HZ = 16_000
BANDS = {
    "loudness": ["below -40 dBFS", "-40 to -30 dBFS", "-30 to -20 dBFS", "above -20 dBFS"],
    "length": ["below half a clip", "half to a whole", "a whole or longer"],
}


def fake_page(
    *candidates: CandidateScores,
    split: str = "test",
    mistakes=(),
    data=DATA,
    validation=VALIDATION,
    provenance=PROVENANCE,
    title="Report",
) -> str:
    """The page of the candidates, of which the first is the best."""
    return render(title, candidates[0].name, split, candidates, mistakes, data, validation, provenance)


def fake_candidate(
    name: str,
    labels: list[str],
    accuracy: float,
    split: str = "test",
    clips: int = 2000,
    epochs: int = 30,
    saved_bytes: int = 1_234_567,
) -> CandidateScores:
    rng = np.random.default_rng(len(name))
    predictions = fake_predictions(labels, accuracy, clips, rng)
    if split == "validation":
        predictions["split"] = "validation"
    parts = dict(list(predictions.groupby("split")))
    metrics = fake_costs(saved_bytes) | {"validation": fake_scores(parts["validation"])}
    if split == "test":
        metrics["test"] = fake_scores(parts["test"])
    frames = (
        pd.concat([fake(part).assign(split=name) for name, part in parts.items()], ignore_index=True)
        for fake in (fake_labels, fake_calibration, fake_slices)
    )
    return CandidateScores(name, metrics, fake_history(epochs, accuracy, rng), predictions, *frames)


def fake_predictions(labels: list[str], accuracy: float, clips: int, rng: np.random.Generator) -> pd.DataFrame:
    true = rng.integers(len(labels), size=clips)
    wrong = rng.random(clips) >= accuracy
    # Errors gather on a few neighbours, as those of a real classifier do.
    predicted = np.where(wrong, (true + rng.geometric(0.4, size=clips)) % len(labels), true)
    ids, speakers = [f"clip{i}.wav" for i in range(clips)], rng.integers(60, size=clips).astype(str)
    frame = pd.DataFrame({"id": ids, "speaker": speakers})
    frame["split"] = np.where(np.arange(clips) % 2, "validation", "test")
    frame["label"], frame["predicted"] = np.array(labels, object)[true], np.array(labels, object)[predicted]
    return frame.assign(probability=np.where(wrong, rng.uniform(0.3, 1.0, clips), rng.beta(9, 1, clips)))


def fake_costs(saved_bytes: int) -> dict:
    costs = {"parameters": saved_bytes // 4, "multiply_adds": 12 * saved_bytes, "saved_bytes": saved_bytes}
    times = {"latency_ms_p50": 0.9 + saved_bytes / 1e6, "latency_ms_p99": 2.2 + saved_bytes / 1e6}
    return costs | times | {"train_seconds": 241.5, "train_clips_per_second": 1834.6}


def fake_scores(predictions: pd.DataFrame) -> dict:
    accuracy = float((predictions["label"] == predictions["predicted"]).mean())
    f1 = accuracy * 0.99
    return {
        "accuracy": accuracy,
        "accuracy_ci95": [max(accuracy - 0.0137, 0.0), min(accuracy + 0.0119, 1.0)],
        "macro_f1": f1,
        "macro_f1_ci95": [max(f1 - 0.0151, 0.0), min(f1 + 0.0127, 1.0)],
        "clips": len(predictions),
        "speakers": predictions["speaker"].nunique(),
        "expected_calibration_error": 0.0234 + (1 - accuracy) / 10,
        "accuracy_in_noise": {db: accuracy * (1 - 1 / (db + 3)) for db in (20, 10, 5, 0)},
        "rejection": {
            "threshold": 0.4375,
            "miss_rate": 0.0512,
            "false_accept_rate": 0.0187,
            "false_accepts_per_hour": 3.25,
            "false_accepts_per_hour_ci95": [0.67, 9.5],
            "noise_seconds": 3323.0,
        },
    }


def fake_labels(predictions: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for label in sorted(set(predictions["label"])):
        hits = ((predictions["label"] == label) & (predictions["predicted"] == label)).sum()
        clips, claimed = (predictions["label"] == label).sum(), (predictions["predicted"] == label).sum()
        scores = hits / max(claimed, 1), hits / clips, 2 * hits / (claimed + clips)
        rows.append((label, *map(float, scores), int(clips)))
    return pd.DataFrame(rows, columns=["label", "precision", "recall", "f1", "clips"])


def fake_calibration(predictions: pd.DataFrame, bins: int = 15) -> pd.DataFrame:
    right = (predictions["label"] == predictions["predicted"]).astype(float)
    which = (predictions["probability"] * bins).astype(int).clip(upper=bins - 1)
    frame = pd.DataFrame({"confidence": predictions["probability"], "accuracy": right, "clips": 1})
    calibration = frame.groupby(which).agg({"confidence": "mean", "accuracy": "mean", "clips": "sum"})
    return calibration.assign(low=calibration.index / bins, high=(calibration.index + 1) / bins).reset_index(drop=True)


def fake_slices(predictions: pd.DataFrame) -> pd.DataFrame:
    right = predictions["label"] == predictions["predicted"]
    rows = []
    for name, bands in BANDS.items():
        for i, band in enumerate(bands):
            part = predictions[np.arange(len(predictions)) % len(bands) == i]
            accuracy = float(right[part.index].mean())
            interval = max(accuracy - 0.03, 0.0), min(accuracy + 0.025, 1.0)
            rows.append((name, band, len(part), part["speaker"].nunique(), accuracy, *interval))
    return pd.DataFrame(rows, columns=["slice", "band", "clips", "speakers", "accuracy", "low", "high"])


def fake_history(epochs: int, accuracy: float, rng: np.random.Generator) -> pd.DataFrame:
    epoch = np.arange(1, epochs + 1)
    rise = 1 - np.exp(-epoch / 6)
    return pd.DataFrame(
        {
            "epoch": epoch,
            "loss": 3.2 * (1 - rise) + 0.25 + rng.normal(0, 0.02, epochs),
            "accuracy": accuracy * rise,
            "validation_loss": 3.2 * (1 - rise) + 0.4 + rng.normal(0, 0.04, epochs),
            "validation_accuracy": accuracy * rise + rng.normal(0, 0.004, epochs),
            "seconds": rng.uniform(7, 9, epochs),
        }
    )


def fake_mistakes(labels: list[str], number: int = 12) -> list[Mistake]:
    """Chirps of a second, each with a spectrogram in which it is seen."""
    rng = np.random.default_rng(7)
    return [
        Mistake(
            id=f"{labels[i % len(labels)]}/{i:08x}_nohash_{i % 3}.wav",
            speaker=f"{i:08x}",
            label=labels[i % len(labels)],
            predicted=labels[(i + 1) % len(labels)],
            probability=0.9971 - i / 40,
            wav=wav_of(chirp(200 + 150 * i)),
            spectrogram=chirp_spectrogram(3 + 2 * i, rng),
            seconds=1.0,
        )
        for i in range(number)
    ]


def chirp(from_hz: float) -> np.ndarray:
    seconds = np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    return 0.3 * np.sin(2 * np.pi * (from_hz + 300 * seconds) * seconds) * np.hanning(SAMPLE_RATE_HZ)


def wav_of(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(SAMPLE_RATE_HZ)
        out.writeframes((samples * 32767).astype("<i2").tobytes())
    return file.getvalue()


def chirp_spectrogram(band: int, rng: np.random.Generator, frames: int = 98, bands: int = 40) -> np.ndarray:
    at = band + np.linspace(0, 8, frames)[:, None]
    ridges = sum(np.exp(-0.5 * ((np.arange(bands) - at * k) / 1.2) ** 2) / k for k in (1, 2, 3))
    return 0.35 + 0.5 * ridges * np.hanning(frames)[:, None] + rng.normal(0, 0.02, (frames, bands))
