"""What people do with the registry, at the command line, after real trainings."""

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import BIN, FAST_TC_RESNET, change_params, copied
from mlflow import MlflowClient
from support.mlflow_server import serving
from support.prefect_server import running, wait_until

from earmark.models import model_folder
from earmark.registry.comparison import ChampionComparison
from earmark.reporting.gate_result import Verdict

SECONDS = 300
FEWER = ["down", "no", "up", "yes"]
NOBODY = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}


@pytest.fixture(scope="module")
def evaluated(registered, tmp_path_factory, earmark) -> Path:
    """A checkout with version 1, the champion, and a model of one epoch that is not registered; no test changes it."""
    folder = copied(registered, tmp_path_factory.mktemp("evaluated") / "project")
    (folder / "dvc.lock").unlink()  # the second training is none of DVC's
    change_params(folder, {"seed": 2, "train": {"candidates": {"tc_resnet": FAST_TC_RESNET | {"epochs": 1}}}})
    for stage in (["train", "tc_resnet"], ["evaluate"]):
        succeeded(earmark(folder, *stage))
    return folder


@pytest.fixture
def candidate(evaluated, tmp_path) -> Path:
    """A copy of that for one test."""
    return copied(evaluated, tmp_path / "project")


@pytest.fixture(scope="module")
def registration(evaluated, tmp_path_factory, earmark) -> tuple[Path, str]:
    """A checkout with version 2, the challenger, as well, which no test changes; and what was said of that version."""
    folder = copied(evaluated, tmp_path_factory.mktemp("registration") / "project")
    return folder, succeeded(earmark(folder, "register"))


@pytest.fixture
def project(registration, tmp_path) -> Path:
    """A copy of that for one test."""
    return copied(registration[0], tmp_path / "project")


def succeeded(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def refused(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("earmark: ")
    return done.stderr


def state(folder: Path) -> list:
    """All that the registry says: versions, aliases, moves."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    entries = sorted(client.search_model_versions(), key=lambda entry: (entry.name, int(entry.version)))
    versions = [(entry.name, entry.version, entry.tags, entry.description) for entry in entries]
    return [*versions, client.get_registered_model("earmark").aliases]


def test_the_verdict_is_in_the_report_the_run_and_the_file_that_the_flow_shows(registered, tmp_path):
    project = copied(registered, tmp_path / "project")
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    version = client.get_model_version_by_alias("earmark", "champion")
    page = (project / "reports/registered.html").read_text(encoding="utf-8")
    assert "there was no champion to compare with" in page
    assert "there was no champion to compare with" not in (project / "reports/report.html").read_text(encoding="utf-8")
    [logged] = project.glob(f"mlruns/*/{version.run_id}/artifacts/report.html")
    assert logged.read_text(encoding="utf-8") == page
    verdict = json.loads((project / "reports/verdict.json").read_text(encoding="utf-8"))
    [address] = re.findall(r"\[Report\]\((.*?)\?workflowType=machine_learning\)", version.description)
    assert address == f"#/experiments/1/runs/{version.run_id}/artifacts/report.html"
    assert len(version.tags) < 10  # the next version is on the same page
    [kept] = project.glob(f"mlruns/*/{version.run_id}/artifacts/verdict/verdict.json")
    assert json.loads(kept.read_text(encoding="utf-8")) == verdict
    outcomes = {check["name"]: check["outcome"] for check in verdict["checks"]}
    assert (outcomes["accuracy"], outcomes["against the champion"]) == ("passed", "not measured")


def test_register_tells_mlflow_nothing_while_a_report_is_missing_or_damaged(candidate, earmark):
    before = state(candidate)
    predictions = candidate / "reports/predictions.csv"
    predictions.write_text("id,speaker\n")
    assert "reports/predictions.csv is missing or damaged; run" in refused(earmark(candidate, "register"))
    predictions.unlink()
    assert "reports/predictions.csv is missing; run 'dvc repro' first" in refused(earmark(candidate, "register"))
    for content in ("{}", "[]", '{"best": "tc_resnet", "candidates": {}}', "null"):
        (candidate / "reports/metrics.json").write_text(content)
        assert "reports/metrics.json is missing or damaged" in refused(earmark(candidate, "register"))
    assert state(candidate) == before


def test_a_second_version_is_compared_on_the_same_clips_and_says_how_to_overrule_it(registration):
    _, text = registration
    assert "registered tc_resnet as earmark version 2, challenger: against the champion:" in text
    assert "clips right, the champion" in text
    assert text.rstrip().endswith("earmark registry promote 2 --why '…'")


def test_a_verdict_stays_as_long_as_it_is_of_the_version_at_hand_and_of_this_registry(project, earmark):
    verdict, page, report = (project / "reports" / name for name in ("verdict.json", "registered.html", "report.html"))
    stored, text = json.loads(verdict.read_text(encoding="utf-8")), report.read_text(encoding="utf-8")
    report.write_text(text.replace("<h1", "<p>figures of today</p><h1", 1), encoding="utf-8")
    assert "nothing new to register" in succeeded(earmark(project, "register"))
    assert json.loads(verdict.read_text(encoding="utf-8")) == stored
    assert "figures of today" in page.read_text(encoding="utf-8")
    assert "clips right, the champion" in page.read_text(encoding="utf-8")
    others = (stored | {"version": "9"}, [], {"version": "1"}, {"model": "other", "version": "1", "checks": []})
    for strange in others:
        verdict.write_text(json.dumps(strange))
        page.write_text("of another verdict")
        assert "nothing new to register" in succeeded(earmark(project, "register"))
        assert not verdict.exists()
        assert not page.exists()


def test_list_and_show_say_what_there_is(registration, run, earmark):
    """The table once by a process of its own."""
    table = succeeded(run(registration[0], "earmark", "registry", "list"))
    assert table.index("2 │ challenger │ tc_resnet") < table.index("1 │ champion   │ tc_resnet")
    output = succeeded(earmark(registration[0], "registry", "show", "challenger"))
    assert output.startswith("earmark version 2 (challenger)")
    for expected in ("against the champion", "largest drop in recall", "git_commit", "content_sha256", "register"):
        assert expected in output


def test_promote_and_rollback_move_the_champion_and_keep_the_reason(project, earmark):
    why = "it sounds [bold]better[/bold] to me"
    promoted = succeeded(earmark(project, "registry", "promote", "2", "--why", why))
    assert "version 1 → version 2" in promoted
    assert why in " ".join(succeeded(earmark(project, "registry", "show", "champion", COLUMNS="250")).split())
    rolled_back = succeeded(earmark(project, "registry", "rollback", "--why", "it does not"))
    assert "version 2 → version 1" in rolled_back
    assert succeeded(earmark(project, "registry", "show", "champion")).startswith("earmark version 1 (champion)")
    before = state(project)
    assert "had no champion before" in refused(earmark(project, "registry", "rollback", "--why", "further"))
    assert state(project) == before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["show", "abc"], "no version or alias 'abc'; expected one of 1, 2, challenger, champion"),
        (["show", "a/b"], "no version or alias 'a/b'"),
        (["promote", "0", "--why", "x"], "no version or alias '0'"),
        (["promote", "999", "--why", "x"], "no version or alias '999'"),
        (["promote", "champion", "--why", "x"], "version 1 is champion already"),
        (["promote", "2", "--why", " \n"], "--why: "),
        (["promote", "2", "--why", "x" * 1001], "--why: "),
        (["promote", "2", "--why", "\x1b[31mred"], "--why: "),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_moves(registration, earmark, arguments, expected):
    before = state(registration[0])
    assert expected in refused(earmark(registration[0], "registry", *arguments))
    assert state(registration[0]) == before


def test_a_reason_must_be_given(registration, earmark):
    done = earmark(registration[0], "registry", "promote", "2")
    assert done.returncode == 2
    assert "--why" in done.stderr


COMMANDS = [
    ["registry", "list"],
    ["registry", "show", "1"],
    ["registry", "promote", "2", "--why", "x"],
    ["registry", "rollback", "--why", "x"],
    ["register"],
    ["lineage", "1"],
    ["reproduce", "1"],
    ["predict", "clip.wav"],
    ["listen", "params.yaml"],
    ["export", "champion", "out", "--format", "onnx"],
]


def assert_registry_that_is_down_is_one_sentence(start, folder: Path, command: list[str], damaged: Path) -> None:
    assert "http://127.0.0.1:9 does not answer" in refused(start(folder, *command, **NOBODY))
    damaged.write_bytes(b"no database" * 1000)
    address = {"MLFLOW_TRACKING_URI": f"sqlite:///{damaged}"}
    assert "damaged.db does not answer" in refused(start(folder, *command, **address))


@pytest.mark.parametrize("command", COMMANDS, ids=[" ".join(command[:2]) for command in COMMANDS])
def test_a_registry_that_is_down_is_one_sentence(registration, earmark, command, tmp_path):
    assert_registry_that_is_down_is_one_sentence(earmark, registration[0], command, tmp_path / "damaged.db")


def test_no_other_word_comes_from_a_process_whose_registry_is_down(registration, run, tmp_path):
    def start(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        return run(folder, "earmark", *arguments, **environment)

    assert_registry_that_is_down_is_one_sentence(start, registration[0], ["lineage", "1"], tmp_path / "damaged.db")


def test_what_cannot_be_compared_is_not_registered(candidate, earmark):
    """The champion is of the shards that are there; another model is, of which a shard is gone meanwhile."""
    before = state(candidate)
    shutil.rmtree(candidate / "data/raw")
    assert "data/raw" in refused(earmark(candidate, "register"))
    assert state(candidate) == before


def test_while_the_champion_cannot_be_asked_for_nothing_is_registered(candidate, run):
    """Its files lie in a bucket that does not answer, which is no fault of theirs; a process of its own, since clients
    of S3 keep the keys that they had first."""
    client = MlflowClient(f"sqlite:///{candidate}/mlflow.db")
    version = client.create_model_version("earmark", "s3://nowhere/model")
    client.set_registered_model_alias("earmark", "champion", version.version)
    before = [(entry.version, entry.aliases, entry.tags) for entry in client.search_model_versions("name = 'earmark'")]
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_MAX_ATTEMPTS": "1"}
    text = refused(run(candidate, "earmark", "register", AWS_ENDPOINT_URL="http://127.0.0.1:9", **keys))
    assert "models:/earmark/2 cannot be downloaded" in text
    assert "127.0.0.1:9" in text
    assert before == [
        (entry.version, entry.aliases, entry.tags) for entry in client.search_model_versions("name = 'earmark'")
    ]


def test_an_empty_registry_says_so(registered, tmp_path, earmark):
    shutil.copy(registered / "params.yaml", tmp_path)
    assert "earmark has no versions yet" in succeeded(earmark(tmp_path, "registry", "list"))
    assert "nor any other" in refused(earmark(tmp_path, "registry", "show", "1"))
    assert "had no champion before" in refused(earmark(tmp_path, "registry", "rollback", "--why", "x"))


def test_a_champion_whose_files_are_damaged_leaves_the_choice_to_a_person(candidate, earmark):
    client = MlflowClient(f"sqlite:///{candidate}/mlflow.db")
    place = Path(client.get_model_version_download_uri("earmark", "1").removeprefix("file://"))
    [model] = place.rglob("model.keras")
    model.write_bytes(model.read_bytes()[:1000])
    text = succeeded(earmark(candidate, "register"))
    assert "version 2, challenger: against the champion: it cannot be scored" in text
    assert "the files of earmark version 1 are not those that were registered" in text
    assert "a person may promote it anyway" in text
    assert "earmark registry promote 2" in text
    promoted = succeeded(earmark(candidate, "registry", "promote", "2", "--why", "it is whole"))
    assert "version 1 → version 2" in promoted
    before = state(candidate)
    assert "cannot be champion again" in refused(earmark(candidate, "registry", "rollback", "--why", "back"))
    again = refused(earmark(candidate, "registry", "promote", "1", "--why", "back"))
    assert "not those that were registered" in again
    assert state(candidate) == before


def keep_outputs(folder: Path, labels: Sequence[str]) -> None:
    """Leaves the model in a folder the outputs of these labels only."""
    import keras

    whole = model_folder.load(folder)
    network = whole.model.get_layer("tc_resnet")
    places = [whole.labels.index(label) for label in labels]
    layer = keras.layers.Dense(len(labels), activation="softmax")
    fewer = keras.Model(network.inputs, layer(network.layers[-1].input), name=network.name)
    layer.set_weights([weights[..., places] for weights in network.layers[-1].get_weights()])
    model_folder.save(folder, fewer, whole.front_end, tuple(labels), whole.rejection_threshold)


def test_a_model_without_labels_of_the_champion_leaves_the_choice_to_a_person(candidate, earmark):
    change_params(candidate, {"dataset": {"labels": FEWER}})
    keep_outputs(candidate / "models/tc_resnet", FEWER)
    for stage in ("validate", "evaluate"):
        succeeded(earmark(candidate, stage))
    text = succeeded(earmark(candidate, "register"))
    assert "version 2, challenger: " in text
    assert "labels of the champion: 'bed', 'bird', 'cat', 'dog', 'eight', 21 more not known; a person may" in text


def test_a_model_that_was_registered_while_another_was_compared_is_the_champion(
    registered, candidate, earmark, tmp_path, monkeypatch
):
    """Two checkouts with different models at one registry, which has none yet."""
    other = copied(registered, tmp_path / "other")
    registry = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    verdict_of, outputs = ChampionComparison.verdict, []

    def while_the_other_registers(comparison: ChampionComparison, champion: str) -> Verdict:
        verdict = verdict_of(comparison, champion)
        if not outputs:
            monkeypatch.setattr(ChampionComparison, "verdict", verdict_of)
            outputs.append(succeeded(earmark(other, "register", **registry)))
        return verdict

    monkeypatch.setattr(ChampionComparison, "verdict", while_the_other_registers)
    outputs.append(succeeded(earmark(candidate, "register", **registry)))
    assert "version 1, champion: there was no champion to compare with" in outputs[0]
    assert "version 2, challenger: against the champion:" in outputs[1]
    assert "clips right, the champion" in outputs[1]
    aliases = MlflowClient(registry["MLFLOW_TRACKING_URI"]).get_registered_model("earmark").aliases
    assert {alias: str(number) for alias, number in aliases.items()} == {"champion": "1", "challenger": "2"}


@pytest.mark.slow
def test_two_runs_at_once_make_one_champion(registered, candidate, earmark, tmp_path):
    """Two checkouts with different models at one server, which has none yet; one is registered by a process of its own,
    the other in this one as soon as that has begun."""
    other = copied(registered, tmp_path / "other")
    with serving(tmp_path) as address:
        client = MlflowClient(address)
        path = {"PATH": f"{BIN}:/usr/bin:/bin", "MLFLOW_TRACKING_URI": address}
        with running([BIN / "earmark", "register"], tmp_path / "outputs", cwd=candidate, env=path) as process:
            wait_until(lambda: process.poll() is not None or client.search_registered_models(), SECONDS, "it begins")
            succeeded(earmark(other, "register", MLFLOW_TRACKING_URI=address))
            assert process.wait(SECONDS) == 0, (tmp_path / "outputs").read_text()
        aliases = {alias: str(number) for alias, number in client.get_registered_model("earmark").aliases.items()}
        verdicts = {
            str(entry.version): entry.tags["verdict"] for entry in client.search_model_versions("name = 'earmark'")
        }
    assert sorted(aliases.values()) == ["1", "2"]
    assert set(aliases) == {"champion", "challenger"}
    assert verdicts[aliases["champion"]] == "champion: there was no champion to compare with"
    assert "clips right, the champion" in verdicts[aliases["challenger"]]
