"""`mlflow models serve` with a registered model, where nothing of earmark is, against `earmark predict`."""

import base64
import io
import json
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import requests
import soundfile
from conftest import copied
from support.model_server import serving

from earmark.audio import decode
from earmark.dataset import shards
from earmark.models import model_folder

RATE, LENGTH = 16_000, 16_000


@pytest.fixture(scope="module")
def project(tmp_path_factory, registered):
    return copied(registered, tmp_path_factory.mktemp("served") / "project")


@pytest.fixture(scope="module")
def address(project, tmp_path_factory):
    home = tmp_path_factory.mktemp("server")
    with serving("models:/earmark@champion", f"sqlite:///{project}/mlflow.db", home) as address:
        yield f"{address}/invocations"


@pytest.fixture(scope="module")
def labels(project):
    return model_folder.read_settings(project / "models/tc_resnet")["labels"]


@pytest.fixture(scope="module")
def recordings(project) -> list[bytes]:
    """Twelve clips of the data set, and what else people record: another rate, channels, depth, format, length."""
    rows = pd.read_parquet(project / "data/accepted.parquet").iloc[::23].head(12)
    plain = list(shards.read_recordings(project / "data/raw", rows))
    samples, rate = soundfile.read(io.BytesIO(plain[0]))
    assert rate == RATE
    return [
        *plain,
        written(samples, 44_100, "PCM_24"),
        written(np.stack([samples, -0.5 * samples], axis=1), 8_000, "PCM_U8"),
        written(np.tile(samples, 5), 48_000, "FLOAT"),
        written(samples[: LENGTH // 5], RATE, "PCM_16", "FLAC"),
        written(samples, 22_050, "ULAW"),
    ]


def written(samples: np.ndarray, rate: int, subtype: str, format: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype=subtype, format=format)
    return file.getvalue()


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def post(address: str, request: dict) -> list[dict]:
    answer = requests.post(address, data=json.dumps(request), headers={"Content-Type": "application/json"}, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"]


def test_recordings_of_any_kind_get_the_answers_of_earmark_predict(
    project, address, recordings, labels, earmark, tmp_path
):
    for number, content in enumerate(recordings):
        (tmp_path / f"{number:02}.wav").write_bytes(content)
    done = earmark(project, "predict", "--json", str(tmp_path))
    assert done.returncode == 0, done.stderr
    predicted = [json.loads(line) for line in done.stdout.splitlines()]
    served = post(address, {"dataframe_records": [{"wav": encoded(content)} for content in recordings]})
    assert [answer["label"] for answer in served] == [prediction["label"] for prediction in predicted]
    assert len({answer["label"] for answer in served}) > 1
    for answer, expected in zip(served, predicted, strict=True):
        assert list(answer["probabilities"]) == labels
        assert answer["probability"] == max(answer["probabilities"].values())
        top = {entry["label"]: entry["probability"] for entry in expected["top"]}
        assert {label: answer["probabilities"][label] for label in top} == pytest.approx(top, abs=2e-6)


def test_raw_samples_get_the_answers_of_their_recordings_in_every_form(address, recordings):
    wav = encoded(recordings[12])
    samples = decode.clip(recordings[12], RATE, LENGTH, "silence").astype(float).tolist()
    (expected,) = post(address, {"dataframe_records": [{"wav": wav}]})
    for request in (
        {"dataframe_records": [{"samples": samples}]},
        {"dataframe_split": {"columns": ["samples"], "data": [[samples]]}},
        {"inputs": [samples]},
        {"instances": [samples]},
        {"inputs": {"samples": [samples]}},
        {"inputs": [{"samples": samples}]},
        {"instances": [{"samples": samples}]},
        {"inputs": {"wav": [wav]}},
        {"inputs": [{"wav": wav}]},
        {"instances": [{"wav": wav}]},
    ):
        assert post(address, request) == [expected]


def test_both_forms_may_stand_in_one_request(address, recordings):
    samples = decode.clip(recordings[0], RATE, LENGTH, "silence").astype(float).tolist()
    wrapped = base64.encodebytes(recordings[0]).decode()  # with line breaks, as tools write it
    one, other = post(address, {"dataframe_records": [{"samples": samples}, {"wav": wrapped}]})
    assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-6)


def test_requests_at_the_same_time_are_not_mixed_up(address, recordings):
    requests_of = [{"dataframe_records": [{"wav": encoded(recording)}]} for recording in recordings]
    alone = [post(address, request)[0]["probabilities"] for request in requests_of]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda request: post(address, request)[0]["probabilities"], requests_of * 3))
    for answer, expected in zip(together, alone * 3, strict=True):
        assert answer == pytest.approx(expected, abs=1e-6)


SILENCE = [0] * LENGTH


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ({"wav": "no base64!"}, "not in base64"),
        ({"wav": 5}, "not in base64"),
        ({"wav": encoded(b"no audio at all")}, "not a recording"),
        ({"wav": ""}, "an empty file"),
        ({"wav": encoded(written(np.zeros(0), RATE, "PCM_16"))}, "no samples"),
        ({"wav": encoded(written(np.full(LENGTH, np.nan), RATE, "FLOAT"))}, "NaN or infinite samples"),
        ({"samples": SILENCE[:-1]}, "samples: 15999; expected 16000 at 16000 Hz"),
        ({"samples": [SILENCE]}, "samples: 1 x 16000"),
        ({"samples": [float("nan"), *SILENCE[1:]]}, "NaN or infinite samples"),
        ({"samples": [1e300, *SILENCE[1:]]}, "a sample of 1e+300; expected -1 to 1"),
        ({"samples": [10**400, *SILENCE[1:]]}, "a sample is too large for a float; expected -1 to 1"),
        ({"samples": [-32768, *SILENCE[1:]]}, "a sample of 32768; expected -1 to 1"),
        ({"samples": ["loud", *SILENCE[1:]]}, "not a list of numbers; expected 16000"),
        ({"sound": "UklGRg=="}, "it has sound; expected"),
        ({"wav": "UklGRg==", "samples": SILENCE}, "it has wav, samples; expected"),
    ],
)
def test_what_is_no_clip_is_refused_with_its_place_and_the_others_with_it(address, recordings, row, error):
    rows = [{"wav": encoded(recordings[0])}, row]
    answer = requests.post(
        address,
        data=json.dumps({"dataframe_records": rows}),
        headers={"Content-Type": "application/json"},
        timeout=60,
    )
    assert answer.status_code == 400
    assert error in answer.json()["message"].split("clip 2: ")[1]
    assert "Traceback" not in answer.text
    assert len(post(address, {"dataframe_records": rows[:1]})) == 1


@pytest.mark.parametrize("request_body", [{"dataframe_records": []}, {"inputs": []}, {"inputs": "yes"}, {"inputs": 5}])
def test_a_request_without_a_clip_is_refused(address, request_body):
    answer = requests.post(address, json=request_body, timeout=60)
    assert answer.status_code == 400
    assert "no clips; expected" in answer.json()["message"]


CHILD = """
import sys
unpickled = []
sys.addaudithook(lambda event, arguments: unpickled.append(arguments) if event == "pickle.find_class" else None)
import mlflow, numpy as np
mlflow.set_tracking_uri(sys.argv[1])
before = sorted(sys.path)
model = mlflow.pyfunc.load_model("models:/earmark@champion")
answers = model.predict(np.zeros((2, 16000), np.float32))
print(list(answers.columns), len(answers), unpickled, sorted(sys.path) == before)
import earmark.stages  # the installed one, which the model's own has not replaced
"""


def test_loading_unpickles_nothing_and_leaves_no_trace(project):
    """Python reports each class that an unpickling looks up; there is none."""
    command = [sys.executable, "-c", CHILD, f"sqlite:///{project}/mlflow.db"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    columns = ["label", "probability", "accepted", "probabilities"]
    assert done.stdout.splitlines()[-1] == f"{columns} 2 [] True"


def test_labels_in_another_order_are_found_before_the_model_is_served(project, tmp_path):
    client = mlflow.MlflowClient(f"sqlite:///{project}/mlflow.db")
    place = client.get_model_version_download_uri("earmark", "1").removeprefix("file://")
    folder = Path(shutil.copytree(place, tmp_path / "copy"))
    (path,) = folder.glob("artifacts/*/settings.json")
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(settings | {"labels": settings["labels"][::-1]}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"settings.json and model.keras are not as they were saved together"):
        mlflow.pyfunc.load_model(str(folder))


class Bomb:
    """Pickled, it makes a file where it is loaded."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("command", [["predict", "{clip}", "--model"], ["export", "--format", "onnx", "{out}"]])
def test_a_version_that_is_a_pickle_is_refused_and_never_loaded(project, recordings, earmark, tmp_path, command):
    """Someone who may write to the registry is not someone who may run code here."""
    exploded, flavor = tmp_path / "exploded", tmp_path / "evil"
    flavor.mkdir()
    (flavor / "python_model.pkl").write_bytes(pickle.dumps(Bomb(exploded)))
    configuration = {
        "loader_module": "mlflow.pyfunc.model",
        "python_model": "python_model.pkl",
        "cloudpickle_version": "3.0.0",
        "python_version": "3.11.0",
    }
    (flavor / "MLmodel").write_text(json.dumps({"flavors": {"python_function": configuration}, "model_uuid": "0"}))
    client = mlflow.MlflowClient(f"sqlite:///{project}/mlflow.db")
    name = f"evil-{command[0]}"
    client.create_registered_model(name)
    client.create_model_version(name, str(flavor))
    (tmp_path / "clip.wav").write_bytes(recordings[0])
    places = {"{clip}": str(tmp_path / "clip.wav"), "{out}": str(tmp_path / "out")}
    arguments = [places.get(argument, argument) for argument in command]
    if command[0] == "export":
        arguments.insert(1, f"models:/{name}/1")
    else:
        arguments.append(f"models:/{name}/1")
    done = earmark(project, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"models:/{name}/1 is no model of earmark" in done.stderr
    assert "Traceback" not in done.stderr
    assert not exploded.exists()
    pickle.loads((flavor / "python_model.pkl").read_bytes())
    assert exploded.exists()  # it would have been
