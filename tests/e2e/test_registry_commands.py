"""What people do with the registry, at the command line, after real trainings."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import BIN, OPEN_GATE, change_params
from mlflow import MlflowClient
from mlflow_server import serving


@pytest.fixture(scope="module")
def project(extracted, tmp_path_factory, run) -> Path:
    """A checkout with one version, the champion; the tests of this file go on from each other."""
    folder = tmp_path_factory.mktemp("registry") / "project"
    shutil.copytree(extracted, folder)
    change_params(folder, {"register": {"gate": OPEN_GATE}, "train": {"epochs": 1}})
    assert "version 1, champion: no champion reigns yet" in trained_and_registered(folder, run)
    return folder


def trained(folder: Path, run) -> None:
    for stage in (["train", "tc_resnet"], ["evaluate"]):
        done = run(folder, "earmark", *stage)
        assert done.returncode == 0, done.stderr


def trained_and_registered(folder: Path, run) -> str:
    trained(folder, run)
    done = run(folder, "earmark", "register")
    assert done.returncode == 0, done.stderr
    return done.stdout


def another_model(folder: Path, seed: int) -> None:
    change_params(folder, {"seed": seed})


def said(folder: Path, run, *arguments: str, **environment: str) -> str:
    done = run(folder, "earmark", "registry", *arguments, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(folder: Path, run, *arguments: str, **environment: str) -> str:
    done = run(folder, "earmark", *arguments, **environment)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("earmark: ")
    return done.stderr


def state(folder: Path) -> list:
    """All that the registry says: versions, aliases, moves."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    found = sorted(client.search_model_versions(), key=lambda each: (each.name, int(each.version)))
    versions = [(each.name, each.version, each.tags, each.description) for each in found]
    return [*versions, client.get_registered_model("earmark").aliases]


def test_the_verdict_is_in_the_report_the_run_and_the_file_that_the_flow_shows(project):
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    version = client.get_model_version_by_alias("earmark", "champion")
    page = (project / "reports/registered.html").read_text(encoding="utf-8")
    assert "no champion reigns yet" in page
    assert "no champion reigns yet" not in (project / "reports/report.html").read_text(encoding="utf-8")
    [logged] = project.glob(f"mlruns/*/{version.run_id}/artifacts/report.html")
    assert logged.read_text(encoding="utf-8") == page
    verdict = json.loads((project / "reports/verdict.json").read_text(encoding="utf-8"))
    for check in verdict["checks"]:
        assert check["observed"] in version.tags[f"gate.{check['name'].replace(' ', '_')}"]


def test_register_tells_mlflow_nothing_while_a_report_is_missing(project, run, tmp_path):
    before, predictions = state(project), project / "reports/predictions.csv"
    predictions.rename(tmp_path / "kept")
    text = refused(project, run, "register")
    (tmp_path / "kept").rename(predictions)
    assert "reports/predictions.csv is missing; run 'dvc repro' first" in text
    assert state(project) == before


def test_a_verdict_stays_as_long_as_it_is_of_the_version_at_hand(project, run):
    verdict, page = project / "reports/verdict.json", project / "reports/registered.html"
    assert "nothing new to register" in run(project, "earmark", "register").stdout
    assert verdict.exists() and page.exists()
    verdict.write_text(json.dumps(json.loads(verdict.read_text(encoding="utf-8")) | {"version": "9"}))
    assert "nothing new to register" in run(project, "earmark", "register").stdout
    assert not verdict.exists() and not page.exists()


def test_a_second_version_is_judged_on_the_same_clips_and_says_how_to_overrule_it(project, run):
    another_model(project, seed=2)
    text = trained_and_registered(project, run)
    assert "registered tc_resnet as earmark version 2, challenger: against the champion:" in text
    assert "clips right, the champion" in text
    assert text.rstrip().endswith("earmark registry promote 2 --why '…'")


def test_list_and_show_say_what_there_is(project, run):
    table = said(project, run, "list")
    assert table.index("2 │ challenger │ tc_resnet") < table.index("1 │ champion   │ tc_resnet")
    shown = said(project, run, "show", "challenger")
    assert shown.startswith("earmark version 2 (challenger)")
    for expected in ("against_the_champion", "largest_drop_in_recall", "git_commit", "content_sha256", "register"):
        assert expected in shown


def test_promote_and_rollback_move_the_champion_and_keep_the_reason(project, run):
    promoted = said(project, run, "promote", "2", "--why", "it sounds [bold]better[/bold] to me")
    assert "version 1 → version 2" in promoted
    assert "it sounds [bold]better[/bold] to me" in " ".join(said(project, run, "show", "champion").split())
    assert "version 2 → version 1" in said(project, run, "rollback", "--why", "it does not")
    assert said(project, run, "show", "champion").startswith("earmark version 1 (champion)")
    before = state(project)
    assert "had no champion before" in refused(project, run, "registry", "rollback", "--why", "further")
    assert state(project) == before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["show", "abc"], "no version or alias 'abc'; allowed are 1, 2, champion"),
        (["show", "a/b"], "no version or alias 'a/b'"),
        (["promote", "0", "--why", "x"], "no version or alias '0'"),
        (["promote", "999", "--why", "x"], "no version or alias '999'"),
        (["promote", "champion", "--why", "x"], "version 1 is champion already"),
        (["promote", "2", "--why", " \n"], "--why is"),
        (["promote", "2", "--why", "x" * 1001], "--why is"),
        (["promote", "2", "--why", "\x1b[31mred"], "--why is"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_moves(project, run, arguments, expected):
    before = state(project)
    assert expected in refused(project, run, "registry", *arguments)
    assert state(project) == before


def test_a_reason_must_be_given(project, run):
    done = run(project, "earmark", "registry", "promote", "2")
    assert done.returncode == 2 and "--why" in done.stderr


@pytest.mark.parametrize(
    "command",
    [["list"], ["show", "1"], ["promote", "2", "--why", "x"], ["rollback", "--why", "x"]],
    ids=["list", "show", "promote", "rollback"],
)
def test_a_registry_that_is_down_is_one_sentence(project, run, command):
    nobody = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    assert "http://127.0.0.1:9 does not answer" in refused(project, run, "registry", *command, **nobody)


OTHERS = [
    ["register"],
    ["lineage", "1"],
    ["reproduce", "1"],
    ["predict", "clip.wav"],
    ["listen", "params.yaml"],
    ["export", "champion", "out", "--format", "onnx"],
]


@pytest.mark.parametrize("command", OTHERS, ids=[command[0] for command in OTHERS])
def test_other_commands_at_a_registry_that_is_down_are_one_sentence_too(project, run, command, tmp_path):
    nobody = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    assert "http://127.0.0.1:9 does not answer" in refused(project, run, *command, **nobody)
    (tmp_path / "damaged.db").write_bytes(b"no database" * 1000)
    damaged = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/damaged.db"}
    assert "damaged.db does not answer" in refused(project, run, *command, **damaged)


def test_what_cannot_be_judged_is_not_registered(project, run, tmp_path):
    """The champion is of the shards that are there; another model is, of which a shard is gone meanwhile."""
    kept = tmp_path / "kept"
    shutil.copytree(project, kept)
    another_model(project, seed=5)
    trained(project, run)
    before = state(project)
    shutil.rmtree(project / "data/raw")
    text = refused(project, run, "register")
    after = state(project)
    shutil.rmtree(project)
    kept.rename(project)
    assert "data/raw" in text
    assert after == before


def test_while_the_champion_cannot_be_asked_for_nothing_is_registered(project, run, tmp_path):
    """Its files lie in a bucket that does not answer, which is no fault of theirs."""
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    client = MlflowClient(f"sqlite:///{copy}/mlflow.db")
    made = client.create_model_version("earmark", "s3://nowhere/model")
    client.set_registered_model_alias("earmark", "champion", made.version)
    another_model(copy, seed=6)
    trained(copy, run)
    before = [(each.version, each.aliases, each.tags) for each in client.search_model_versions("name = 'earmark'")]
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_MAX_ATTEMPTS": "1"}
    text = refused(copy, run, "register", AWS_ENDPOINT_URL="http://127.0.0.1:9", **keys)
    assert "models:/earmark/3 cannot be had" in text and "127.0.0.1:9" in text
    assert before == [
        (each.version, each.aliases, each.tags) for each in client.search_model_versions("name = 'earmark'")
    ]


@pytest.mark.parametrize("content", ["{}", "[]", '{"best": "tc_resnet", "candidates": {}}', "null"])
def test_metrics_that_are_none_are_refused(project, run, tmp_path, content):
    metrics = project / "reports/metrics.json"
    metrics.rename(tmp_path / "kept")
    metrics.write_text(content)
    text = refused(project, run, "register")
    (tmp_path / "kept").rename(metrics)
    assert "reports/metrics.json is missing or damaged" in text


def test_new_figures_of_a_registered_model_are_in_the_page_with_its_verdict(project, run):
    page = project / "reports/registered.html"
    report = project / "reports/report.html"
    kept = report.read_text(encoding="utf-8")
    report.write_text(kept.replace("<h1", "<p>figures of today</p><h1", 1), encoding="utf-8")
    assert "nothing new to register" in run(project, "earmark", "register").stdout
    again = page.read_text(encoding="utf-8")
    report.write_text(kept, encoding="utf-8")
    assert "figures of today" in again and "clips right, the champion" in again


def test_a_verdict_of_another_registry_is_not_shown_as_one_of_this(project, run):
    verdict = project / "reports/verdict.json"
    for strange in ([], {"version": "1"}, {"model": "other", "version": "1", "checks": []}):
        verdict.write_text(json.dumps(strange))
        assert "nothing new to register" in run(project, "earmark", "register").stdout
        assert not verdict.exists() and not (project / "reports/registered.html").exists()


def test_an_empty_registry_says_so(extracted, tmp_path, run):
    shutil.copy(extracted / "params.yaml", tmp_path)
    assert "earmark has no versions yet" in said(tmp_path, run, "list")
    assert "nor any other" in refused(tmp_path, run, "registry", "show", "1")
    assert "had no champion before" in refused(tmp_path, run, "registry", "rollback", "--why", "x")


def test_a_champion_whose_files_are_damaged_leaves_the_choice_to_a_person(project, run):
    said(project, run, "promote", "2", "--why", "so that there is one to go back to")
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    for number in ("1", "2"):
        place = Path(client.get_model_version_download_uri("earmark", number).removeprefix("file://"))
        [model] = place.rglob("model.keras")
        model.write_bytes(model.read_bytes()[:1000])
    another_model(project, seed=3)
    text = trained_and_registered(project, run)
    assert "version 3, challenger: against the champion: it cannot be scored" in text
    assert "the files of earmark version 2 are not those that were registered" in text
    assert "a person may promote it all the same" in text and "earmark registry promote 3" in text
    before = state(project)
    assert "cannot be champion again" in refused(project, run, "registry", "rollback", "--why", "back")
    assert "not those that were registered" in refused(project, run, "registry", "promote", "1", "--why", "back")
    assert state(project) == before
    assert "version 2 → version 3" in said(project, run, "promote", "3", "--why", "it is whole")


def test_a_model_without_labels_of_the_champion_leaves_the_choice_to_a_person(project, run):
    change_params(project, {"dataset": {"labels": ["yes", "no", "up", "down"]}})
    for stage in ("validate", "extract"):
        assert run(project, "earmark", stage).returncode == 0
    text = trained_and_registered(project, run)
    assert "version 4, challenger: " in text
    assert "labels of the champion: 'bed', 'bird', 'cat', 'dog', 'eight', 21 more not known; a person may" in text


def test_two_runs_at_once_make_one_champion(project, tmp_path, run):
    """Two checkouts with different models at one server, which has none yet."""
    shutil.copytree(project, tmp_path / "other")
    another_model(tmp_path / "other", seed=7)
    trained(tmp_path / "other", run)
    with serving(tmp_path) as address:
        path = {"PATH": f"{BIN}:/usr/bin:/bin", "MLFLOW_TRACKING_URI": address}
        runs = [
            subprocess.Popen([BIN / "earmark", "register"], cwd=folder, env=path, stdout=subprocess.PIPE, text=True)
            for folder in (project, tmp_path / "other")
        ]
        texts = [each.communicate(timeout=300)[0] for each in runs]
        assert [each.returncode for each in runs] == [0, 0], texts
        client = MlflowClient(address)
        aliases = {alias: str(number) for alias, number in client.get_registered_model("earmark").aliases.items()}
        verdicts = {
            str(each.version): each.tags["verdict"] for each in client.search_model_versions("name = 'earmark'")
        }
    assert sorted(aliases.values()) == ["1", "2"] and set(aliases) == {"champion", "challenger"}
    assert verdicts[aliases["champion"]] == "champion: no champion reigns yet"
    assert "clips right, the champion" in verdicts[aliases["challenger"]]
