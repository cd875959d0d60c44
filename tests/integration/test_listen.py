"""`earmark listen` as a user runs it, with a network whose answers are known: which of two tones sounds."""

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from conftest import BIN

from earmark.cli import main
from earmark.features.front_ends.log_mel import LogMel, mel_matrix
from earmark.models import model_folder

FRONT_END = LogMel(
    sample_rate_hz=16_000,
    clip_samples=16_000,
    padding="silence",
    window_samples=480,
    stride_samples=160,
    fft_length=512,
    floor=1e-6,
    normalisation="full_scale",
    mel_bands=40,
    lowest_hz=20.0,
    highest_hz=7600.0,
)
RATE = FRONT_END.sample_rate_hz
TONES_HZ = {"low": 400.0, "high": 3000.0}
LABELS = (*TONES_HZ, "_silence_")
SAID = [(2.0, "low"), (5.0, "high"), (6.5, "low"), (9.6, "high")]
"""In the middle of which second which tone sounds, for 0.8 seconds."""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A saved model to which a clip is the tone that sounds for most of it, and else silence."""
    from keras import Sequential, layers

    frames = layers.Input((FRONT_END.frames, FRONT_END.bins))
    network = Sequential([frames, layers.GlobalAveragePooling1D(), layers.Dense(3, activation="softmax")], name="tones")
    weights = np.zeros((FRONT_END.bins, len(LABELS)), np.float32)
    for label, hertz in enumerate(TONES_HZ.values()):
        weights[mel_matrix(FRONT_END)[round(hertz * FRONT_END.fft_length / RATE)].argmax(), label] = 20.0
    network.layers[-1].set_weights([weights, np.array([0.0, 0.0, 9.0], np.float32)])
    folder = tmp_path_factory.mktemp("tones")
    model_folder.save(folder, network, FRONT_END, LABELS, 0.75)
    return folder


def sound(seconds: float = 11.0, words: list[tuple[float, str]] = SAID) -> np.ndarray:
    """Silence of so many seconds, in which was said what has a place in it."""
    samples = np.zeros(round(seconds * RATE), np.float32)
    tone = np.arange(round(0.8 * RATE)) / RATE
    for middle, label in words:
        first = round((middle - 0.4) * RATE)
        samples[first : first + len(tone)] = 0.5 * np.sin(2 * np.pi * TONES_HZ[label] * tone)
    return samples


def pcm(samples: np.ndarray, start: float = 0.0, stop: float | None = None) -> bytes:
    """From second `start` to second `stop`, as raw PCM."""
    part = samples[round(start * RATE) : None if stop is None else round(stop * RATE)]
    return np.round(32_767 * part).astype("<i2").tobytes()


@pytest.fixture
def wav(tmp_path) -> Path:
    soundfile.write(tmp_path / "long.wav", sound(), RATE)
    return tmp_path / "long.wav"


@pytest.fixture
def listening(model):
    """Starts `earmark listen -` in a process of its own and waits until it listens; ends it where the test did not."""
    started = []

    def start(stdin: int = subprocess.PIPE) -> subprocess.Popen:
        pipes = {"stdin": stdin, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen([BIN / "earmark", "listen", "-", "--model", model], **pipes)
        started.append(process)
        assert process.stderr.readline() == b"listen: ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def next_line(process: subprocess.Popen) -> bytes:
    """What it prints next, with its input open and nothing more in it."""
    assert select.select([process.stdout], [], [], 60)[0], "nothing came"
    return process.stdout.readline()


def listen_to(*arguments: object):
    return CliRunner().invoke(main, ["listen", *map(str, arguments)])


def told_through_a_pipe(content: bytes, *arguments: object):
    """With `content` as the process' standard input, through a pipe."""
    read_end, write_end = os.pipe()
    writer = threading.Thread(target=write_all, args=(write_end, content))
    before = os.dup(0)
    os.dup2(read_end, 0)
    os.close(read_end)
    writer.start()
    try:
        return listen_to("-", *arguments)
    finally:
        os.dup2(before, 0)  # the pipe's last reader is gone: a writer that still waits ends
        os.close(before)
        writer.join()


def write_all(pipe: int, content: bytes) -> None:
    with contextlib.suppress(BrokenPipeError), open(pipe, "wb") as file:
        file.write(content)


def are_what_was_said(detections: list[dict]) -> None:
    assert [detection["label"] for detection in detections] == [label for _, label in SAID]
    assert [detection["seconds"] for detection in detections] == pytest.approx([middle for middle, _ in SAID], abs=0.3)
    assert all(0.75 <= detection["probability"] <= 1 for detection in detections)


def test_a_recording_is_heard_word_by_word_with_the_time_of_each(model, wav):
    done = listen_to(wav, "--model", model, "--json")
    assert done.exit_code == 0, done.output
    detections = [json.loads(line) for line in done.output.splitlines()]
    are_what_was_said(detections)
    lines = listen_to(wav, "--model", model).output.splitlines()
    assert lines == [f"{e['seconds']:7.1f} s  {e['label']}  {100 * e['probability']:.1f}\u00a0%" for e in detections]
    assert all(re.fullmatch(r" +\d+\.\d s  (low|high)  \d+\.\d\u00a0%", line) for line in lines)


def test_another_rate_and_two_channels_are_heard_at_the_same_times(model, tmp_path):
    samples = np.repeat(sound(), 3)  # 48 kHz, with images above 8 kHz that resampling removes
    soundfile.write(tmp_path / "wide.flac", np.stack([samples, samples], axis=1), 3 * RATE)
    are_what_was_said(
        [json.loads(line) for line in listen_to(tmp_path / "wide.flac", "--model", model, "--json").output.splitlines()]
    )


def test_a_threshold_that_nothing_reaches_is_nothing_heard(model, wav):
    done = listen_to(wav, "--model", model, "--threshold", "1")
    assert (done.exit_code, done.output) == (0, "")


def test_a_recording_shorter_than_a_clip_is_padded_as_predict_pads_it(model, tmp_path):
    soundfile.write(tmp_path / "short.wav", sound(0.8, [(0.4, "high")]), RATE)
    predicted = CliRunner().invoke(main, ["predict", "--json", "--model", str(model), str(tmp_path / "short.wav")])
    expected = json.loads(predicted.output)
    [line] = listen_to(tmp_path / "short.wav", "--model", model, "--json").output.splitlines()
    assert json.loads(line) == {"seconds": 0.5, "label": "high", "probability": expected["probability"]}


def test_raw_pcm_from_standard_input_is_heard_as_a_file_is(model):
    done = told_through_a_pipe(pcm(sound()), "--model", model, "--json")
    are_what_was_said([json.loads(line) for line in done.stdout.splitlines()])
    assert (done.exit_code, done.stderr) == (0, "listen: ready\n")


def test_a_word_is_heard_while_the_input_goes_on_and_ctrl_c_ends_it_quietly(listening):
    process = listening()
    for (start, stop), word in (((0.0, 2.6), b"low"), ((2.6, 5.6), b"high")):  # each to 0.2 seconds after its word
        process.stdin.write(pcm(sound(), start, stop))
        process.stdin.flush()
        assert word in next_line(process)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert process.stdout.read() == process.stderr.read() == b""


def test_a_pipe_that_does_not_wait_is_waited_for_and_one_that_nobody_reads_ends_it_quietly(listening):
    """Whoever holds the other end of its input, or had it before, may have made it so that it does not wait."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    process = listening(read_end)
    os.close(read_end)
    with open(write_end, "wb") as pipe:
        for (start, stop), word in (((0.0, 2.6), b"low"), ((2.6, 5.6), b"high")):
            pipe.write(pcm(sound(), start, stop))
            pipe.flush()
            assert word in next_line(process)
        process.stdout.close()
        pipe.write(pcm(sound(), 5.6, 7.1))
        pipe.flush()
        assert process.wait(60) == 1  # as click has it
    assert process.stderr.read() == b""


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (pcm(sound(1.0, [])) + b"\0", "ends with half a sample; a sample has 2 bytes"),
        (
            b"RIFF" + bytes(40),
            "starts with the header of a WAV file; expected raw PCM, or the file's name",
        ),
    ],
)
def test_standard_input_that_is_no_pcm_is_one_sentence_and_exit_code_2(content, reason, model):
    done = told_through_a_pipe(content, "--model", model)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"listen: ready\nearmark: standard input: {reason}\n"


def nan(folder: Path) -> Path:
    samples = sound()
    samples[-1] = np.nan
    soundfile.write(folder / "bad", samples, RATE, format="WAV", subtype="FLOAT")
    return folder / "bad"


def holding(content: bytes):
    def write(folder: Path) -> Path:
        (folder / "bad").write_bytes(content)
        return folder / "bad"

    return write


@pytest.mark.parametrize(
    ("create", "reason"),
    [
        (holding(b""), "an empty file"),
        (holding(b"no audio at all"), "not a recording; expected one of WAV, RF64, W64, AIFF, FLAC, AU"),
        (nan, "NaN or infinite samples"),
        (lambda folder: folder / "bad", "No such file or directory"),
        (lambda folder: folder, "Is a directory"),
    ],
)
def test_a_file_that_is_no_sound_recording_is_one_sentence_and_exit_code_2(create, reason, model, tmp_path):
    path = create(tmp_path)
    done = listen_to(path, "--model", model)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"earmark: {path}: {reason}\n"


def test_a_pipe_by_name_is_refused(model, tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR)
    try:
        done = listen_to(path, "--model", model)
    finally:
        os.close(writer)
    assert done.exit_code == 2
    assert done.stderr == f"earmark: {path}: not a regular file; expected one, or - for raw PCM from a pipe\n"


@pytest.mark.parametrize("threshold", ["-0.1", "1.5", "nan"])
def test_a_threshold_that_is_no_probability_is_refused(threshold, model, wav):
    done = listen_to(wav, "--model", model, "--threshold", threshold)
    assert done.exit_code == 2
    assert done.stderr == f"earmark: --threshold: {threshold} is out of range; expected 0 to 1\n"


def test_a_folder_without_a_model_is_refused(wav, tmp_path):
    done = listen_to(wav, "--model", tmp_path)
    assert done.exit_code == 2
    assert "holds no model" in done.stderr
