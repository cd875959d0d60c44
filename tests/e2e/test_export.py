"""`earmark export` as a user runs it, the files in their runtimes, and what is no model."""

import hashlib
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import change_params, copied

from earmark.dataset import shards
from earmark.errors import UserError
from earmark.io import hashing
from earmark.models import backend, model_folder

FORMATS = {"litert": "model.tflite", "litert-int8": "model.tflite", "onnx": "model.onnx"}
SAID = r"([\d,]+)\u00a0kB, ([\d.]+)\u00a0% of (\d+) test clips right; the original: ([\d,]+)\u00a0kB, ([\d.]+)\u00a0%"


@pytest.fixture(scope="module")
def project(tmp_path_factory, registered):
    return copied(registered, tmp_path_factory.mktemp("exported") / "project")


@pytest.fixture(scope="module")
def test_clips(project) -> tuple[np.ndarray, list[str]]:
    """Waveforms, float32 (clips, samples), read by libsndfile and padded by NumPy, and their labels."""
    accepted = pd.read_parquet(project / "data/accepted.parquet")
    rows = accepted[accepted["split"] == "test"]
    clips = []
    for content in shards.read_recordings(project / "data/raw", rows):
        samples, rate = soundfile.read(io.BytesIO(content), dtype="float32")
        assert rate == 16_000
        missing = max(0, 16_000 - len(samples))
        first = max(0, len(samples) - 16_000) // 2
        clips.append(np.pad(samples, (missing // 2, missing - missing // 2))[first : first + 16_000])
    return np.stack(clips), list(rows["label"])


def answers(folder: Path, format: str, clips: np.ndarray) -> list[str]:
    """What an application that has only the exported folder says."""
    settings = json.loads((folder / "settings.json").read_text())
    labels = json.loads((folder / "labels.json").read_text())
    assert settings["input"]["shape"][1] == clips.shape[1]
    path = str(folder / FORMATS[format])
    if format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        (predicted,) = session.run(["probabilities"], {settings["input"]["name"]: clips})
    else:
        from ai_edge_litert.interpreter import Interpreter

        run = Interpreter(path).get_signature_runner()
        predicted = np.concatenate([next(iter(run(waveform=clip[None]).values())) for clip in clips])
    return [labels[place] for place in predicted.argmax(axis=1)]


@pytest.mark.parametrize(
    ("source", "format"), [("1", "litert"), ("champion", "litert-int8"), ("models/tc_resnet", "onnx")]
)
def test_what_is_printed_is_what_the_file_does(project, run, earmark, tmp_path, test_clips, source, format):
    """Once by a process of its own."""
    change_params(project, {"export": {"max_accuracy_loss": 0.04}})  # one clip of thirty
    (project / "champion").mkdir(exist_ok=True)  # a word without a / is never a folder
    arguments = ("export", source, str(tmp_path / "out"), "--format", format)
    done = run(project, "earmark", *arguments) if format == "onnx" else earmark(project, *arguments)
    assert done.returncode == 0, done.stderr
    kilobytes, accuracy, clips, original_kilobytes, original = re.search(SAID, done.stdout).groups()
    waveforms, labels = test_clips
    answered = answers(tmp_path / "out", format, waveforms)
    right = np.mean([predicted == label for predicted, label in zip(answered, labels, strict=True)])
    assert int(clips) == len(labels)
    assert float(accuracy) == pytest.approx(100 * right, abs=0.006)
    assert float(original) > 20  # of thirty words: a loss would show
    if format == "litert-int8":
        assert int(kilobytes) < min(400, int(original_kilobytes.replace(",", "")) / 2)
    else:
        assert accuracy == original
    assert int(kilobytes) == round((tmp_path / "out" / FORMATS[format]).stat().st_size / 1000)
    assert int(original_kilobytes.replace(",", "")) == round(
        (project / "models/tc_resnet/model.keras").stat().st_size / 1000
    )
    settings = json.loads((tmp_path / "out/settings.json").read_text())
    assert settings["content_sha256"] == hashing.content_sha256(project / "models/tc_resnet")  # as `registry show`
    assert {path.name for path in (tmp_path / "out").iterdir()} == {FORMATS[format], "labels.json", "settings.json"}
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def fragile(project, tmp_path_factory) -> Path:
    """The same model with one more value before its last layer, a thousand times as large as the others and without
    weight: nothing to a float, and the end of all others where they share their 8 bits with it."""
    backend.start()
    import keras

    whole = model_folder.load(project / "models/tc_resnet")
    network = whole.model.get_layer("tc_resnet")
    last = network.layers[-1]
    constant = keras.ops.ones_like(last.input[:, :1]) * 1e5
    layer = keras.layers.Dense(len(whole.labels), activation="softmax")
    fragile = keras.Model(network.inputs, layer(keras.ops.concatenate([last.input, constant], axis=1)), name="fragile")
    layer.set_weights([np.vstack([last.kernel, np.zeros((1, len(whole.labels)))]), np.asarray(last.bias)])
    folder = tmp_path_factory.mktemp("fragile")
    model_folder.save(folder, fragile, whole.front_end, whole.labels, 0.0)
    return folder


def test_a_file_that_loses_too_much_is_refused_and_leaves_nothing(project, earmark, tmp_path, fragile):
    change_params(project, {"export": {"max_accuracy_loss": 0.01}})
    done = earmark(project, "export", str(fragile), str(tmp_path / "new/out"), "--format", "litert-int8")
    assert done.returncode == 2
    percent = r"[\d.]+\u00a0%"
    assert re.search(rf"litert-int8 gets {percent} of \d+ test clips right and the original {percent}", done.stderr)
    assert "expected a loss of at most 1.00\u00a0%, export.max_accuracy_loss in params.yaml" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["7", "out", "--format", "onnx"], "earmark has no version or alias '7'; expected one of 1, champion"),
        (["nobody", "out", "--format", "onnx"], "earmark has no version or alias 'nobody'"),
        (["data/raw", "out", "--format", "onnx"], "data/raw holds no model"),
        (
            ["models", "out", "--format", "onnx"],
            "no version or alias 'models'; expected one of 1, champion; the folder of this name is written ./models",
        ),
        (["champion", "full", "--format", "onnx"], "full exists already; expected a new or an empty folder"),
        (["champion", "params.yaml", "--format", "onnx"], "params.yaml exists already"),
        (["champion", "params.yaml/out", "--format", "onnx"], "params.yaml is not a folder"),
        (["champion", "out", "--format", "gguf"], "'gguf' is not one of 'litert', 'litert-int8', 'onnx'"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_a_sentence(project, earmark, arguments, error):
    (project / "full").mkdir(exist_ok=True)
    (project / "full/mine.txt").write_text("mine")
    done = earmark(project, "export", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert error in done.stderr
    assert "Traceback" not in done.stderr
    assert not (project / "out").exists()
    assert [path.name for path in (project / "full").iterdir()] == ["mine.txt"]


def test_clips_of_other_labels_cannot_say_what_is_lost(project, earmark, tmp_path):
    shutil.copytree(project / "models/tc_resnet", tmp_path / "model")
    change_settings(
        tmp_path / "model", lambda settings: settings.update(labels=[f"{label} said" for label in settings["labels"]])
    )
    sign(tmp_path / "model")
    done = earmark(project, "export", str(tmp_path / "model"), str(tmp_path / "out"), "--format", "onnx")
    assert done.returncode == 2
    assert "the test clips have none of the model's labels" in done.stderr
    assert not (tmp_path / "out").exists()


def test_clips_of_labels_that_the_model_does_not_know_do_not_hide_what_is_lost(project, earmark, tmp_path, test_clips):
    shutil.copytree(project / "models/tc_resnet", tmp_path / "model")
    change_settings(
        tmp_path / "model",
        lambda settings: settings.update(
            labels=[*settings["labels"][:2], *(f"{label} said" for label in settings["labels"][2:])]
        ),
    )
    sign(tmp_path / "model")
    done = earmark(project, "export", str(tmp_path / "model"), str(tmp_path / "out"), "--format", "onnx")
    labels = json.loads((tmp_path / "out/labels.json").read_text())[:2]
    assert re.search(SAID, done.stdout)[3] == str(sum(label in labels for label in test_clips[1]))


def change_settings(model: Path, change) -> None:
    settings = json.loads((model / "settings.json").read_text())
    change(settings)
    (model / "settings.json").write_text(json.dumps(settings))


def sign(model: Path) -> None:
    """As if the model had been saved with the settings that it has now."""
    settings = json.loads((model / "settings.json").read_text())
    settings.pop("sha256")
    signed = json.dumps(settings, sort_keys=True).encode() + (model / "model.keras").read_bytes()
    (model / "settings.json").write_text(json.dumps(settings | {"sha256": hashlib.sha256(signed).hexdigest()}))


def cut(model: Path, share: float) -> None:
    content = (model / "model.keras").read_bytes()
    (model / "model.keras").write_bytes(content[: int(share * len(content))])


def spoil(model: Path) -> None:
    content = bytearray((model / "model.keras").read_bytes())
    content[len(content) // 2] ^= 255
    (model / "model.keras").write_bytes(content)


OTHERS = "settings.json and model.keras are not as they were saved together"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda model: cut(model, 0), "model.keras is missing or cut short"),
        (lambda model: cut(model, 0.5), "model.keras is missing or cut short"),
        (lambda model: cut(model, 0.9999), "model.keras is missing or cut short"),
        (lambda model: (model / "model.keras").unlink(), "model.keras is missing or cut short"),
        (spoil, OTHERS),
        (lambda model: (spoil(model), sign(model)), "Bad CRC-32"),
        (lambda model: (model / "settings.json").write_text("[" * 100_000), "holds no model"),
        (lambda model: (model / "settings.json").write_text('{"labels": '), "holds no model"),
        (lambda model: (model / "settings.json").write_text("[]"), "settings.json: the file: "),
        (lambda model: change_settings(model, lambda settings: settings["labels"].pop()), OTHERS),
        (
            lambda model: change_settings(model, lambda settings: settings.update(labels="yes")),
            "settings.json: labels: ",
        ),
        (
            lambda model: change_settings(
                model, lambda settings: settings["labels"].__setitem__(0, settings["labels"][1])
            ),
            "a label is listed twice",
        ),
        (
            lambda model: change_settings(model, lambda settings: settings["front_end"].update(clip_samples=8000)),
            OTHERS,
        ),
        (
            lambda model: change_settings(model, lambda settings: settings["front_end"].update(sample_rate_hz=8000)),
            OTHERS,
        ),
        (
            lambda model: change_settings(model, lambda settings: settings["labels"].reverse()),
            OTHERS,
        ),
        (
            lambda model: change_settings(model, lambda settings: settings["front_end"].update(sample_rate_hz="fast")),
            "settings.json: front_end.sample_rate_hz: ",
        ),
        (
            lambda model: change_settings(model, lambda settings: settings["front_end"].pop("padding")),
            "settings.json: front_end.padding: Field required",
        ),
        (
            lambda model: change_settings(model, lambda settings: settings.update(rejection_threshold=-1.0)),
            "settings.json: rejection_threshold: ",
        ),
    ],
)
def test_a_model_that_is_not_whole_or_anothers_is_refused(project, tmp_path, change, error):
    model = tmp_path / "model"
    shutil.copytree(project / "models/tc_resnet", model)
    change(model)
    with pytest.raises(UserError, match=re.escape(error)):
        model_folder.load(model)


def test_a_model_that_holds_code_is_refused_and_the_code_not_run(project, earmark, tmp_path):
    """Keras' Lambda layers hold marshalled functions, which safe mode does not load."""
    import keras

    exploded = tmp_path / "exploded"
    shutil.copytree(project / "models/tc_resnet", tmp_path / "model")
    whole = model_folder.load(tmp_path / "model").model
    path = str(exploded)
    evil = keras.layers.Lambda(lambda x: (open(path, "w").close(), x)[1], output_shape=(16000,))
    waveforms = keras.Input((16000,))
    keras.Model(waveforms, whole(evil(waveforms))).save(tmp_path / "model/model.keras")
    sign(tmp_path / "model")
    exploded.unlink(missing_ok=True)
    done = earmark(project, "export", str(tmp_path / "model"), str(tmp_path / "out"), "--format", "onnx")
    assert done.returncode == 2
    assert "holds no model that can be read" in done.stderr
    assert "Traceback" not in done.stderr
    assert not exploded.exists()
