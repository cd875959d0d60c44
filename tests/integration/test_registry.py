"""The registry: one content once, and aliases that follow their record, whoever else moves them."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests
from botocore.exceptions import ClientError, EndpointConnectionError
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from support.mlflow_server import (
    client,
    in_mlflow,
    logged_run,
    long_after,
    moved,
    registry,
    registry_at,
    some_model,
    some_versions,
    versions,
)

from earmark.errors import ServiceUnavailableError, UserError
from earmark.io import hashing
from earmark.registry.alias_log.aliases import Aliases
from earmark.registry.versions import Registry, trained_versions
from earmark.reporting.outcomes import Outcome
from earmark.reporting.verdict import WrittenCheck, WrittenVerdict
from earmark.stages.register import admit
from earmark.tracking import connection, runs

__all__ = ["client", "registry", "versions"]  # fixtures


def answer(status: int) -> requests.Response:
    response = requests.Response()
    response.status_code = status
    return response


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(scope="module")
def address(home) -> str:
    return f"sqlite:///{home}/mlflow.db"


@pytest.fixture(autouse=True)
def _artifacts_go_to_a_folder_of_the_test(home, monkeypatch):
    monkeypatch.chdir(home)


def test_a_move_is_recorded_with_who_when_from_to_and_why(registry, versions, client, monkeypatch):
    monkeypatch.setenv("EARMARK_FLOW_RUN_ID", "a-flow-run")
    moved(registry, "1", "2")
    assert in_mlflow(client, registry) == {"champion": "2"}
    entry = client.get_model_version(f"{registry.name}-moves", "2")
    assert (entry.tags["alias"], entry.tags["from"], entry.tags["to"]) == ("champion", "1", "2")
    assert (entry.tags["why"], entry.tags["flow_run_id"]) == ("as the test wants it", "a-flow-run")
    assert "@" in entry.tags["who"]
    assert entry.tags["applied"] == "true"
    assert datetime.fromisoformat(entry.tags["when"]).tzinfo == UTC
    assert "champion: 1 → 2" in entry.description
    assert "No model" in client.get_registered_model(f"{registry.name}-moves").description


def test_a_new_champion_loses_the_challengers_alias(registry, versions, client):
    assert registry.aliases.admit("challenger", "2", registry.aliases.state(), "not better")
    moved(registry, "2")
    assert in_mlflow(client, registry) == {"champion": "2"}


def test_a_move_from_where_the_alias_is_not_any_more_is_void(registry, versions, client):
    moved(registry, "1")
    state = registry.aliases.state()
    moved(registry, "2")
    assert not registry.aliases.admit("champion", "3", state, "too late")
    assert in_mlflow(client, registry) == {"champion": "2"}
    assert registry.aliases.reconcile().champion == "2"


def test_the_record_is_no_model_that_was_trained_on_anybody(registry, versions):
    moved(registry, "1")
    titles = [version.title for version in trained_versions("registry")]
    assert f"{registry.name} version 1 (champion)" in titles
    assert not [title for title in titles if "-moves" in title]


def test_an_alias_that_somebody_moved_in_mlflow_is_recorded_and_respected(registry, versions, client):
    moved(registry, "1", "2")
    client.set_registered_model_alias(registry.name, "champion", "4")
    state = registry.aliases.reconcile()
    assert (state.champion, state.former_champions) == ("4", ("1", "2"))
    assert (state.valid_moves[-1].how, state.valid_moves[-1].who) == ("outside", "unknown, outside earmark")
    assert in_mlflow(client, registry) == {"champion": "4"}


def test_aliases_from_before_there_was_a_record_are_taken_over(registry, versions, client):
    client.set_registered_model_alias(registry.name, "champion", "3")
    client.set_registered_model_alias(registry.name, "challenger", "4")
    assert registry.aliases.reconcile().aliases == {"champion": "3", "challenger": "4"}
    assert in_mlflow(client, registry) == {"champion": "3", "challenger": "4"}


def test_a_challenger_that_somebody_made_champion_gives_its_alias_to_the_one_they_chose(registry, versions, client):
    moved(registry, "2")
    assert registry.aliases.admit("challenger", "4", registry.aliases.state(), "not better")
    client.set_registered_model_alias(registry.name, "champion", "4")
    client.set_registered_model_alias(registry.name, "challenger", "3")
    assert registry.aliases.reconcile().aliases == {"champion": "4", "challenger": "3"}
    assert in_mlflow(client, registry) == {"champion": "4", "challenger": "3"}


def test_a_champion_that_somebody_deleted_is_champion_no_more(registry, versions, client):
    moved(registry, "1", "2")
    client.delete_model_version(registry.name, "2")
    state = registry.aliases.reconcile()
    assert (state.champion, state.former_champions) == ("", ("1", "2"))
    with pytest.raises(UserError, match=r"no version or alias 'champion'; expected one of 1, 3, 4$"):
        registry.find("champion")


def test_a_model_that_somebody_deleted_leaves_no_record_for_the_next_of_its_name(
    registry, versions, address, client, tmp_path
):
    moved(registry, "1", "2")
    client.delete_registered_model(registry.name)
    assert registry.aliases.reconcile().aliases == {"champion": "", "challenger": ""}
    [first, _] = some_versions(registry, address, tmp_path / "new" / "some_candidate", 2)
    assert first.number == "1"
    state = registry.aliases.reconcile()
    assert (state.champion, state.former_champions, state.valid_moves) == ("", (), ())
    assert admit(registry, first, "some_candidate", lambda champion: BETTER) == BETTER
    assert [move.how for move in registry.aliases.history("1")] == ["register"]


def test_a_twin_that_a_killed_process_left_goes_and_what_somebody_made_of_a_version_stays(registry, versions, client):
    tags = {runs.CONTENT: versions[0].content}
    for more in ({}, {}, {}, {"verdict": "champion: it was copied with it"}):
        client.create_model_version(registry.name, "s3://bucket/twin", tags=tags | more)
    client.set_registered_model_alias(registry.name, "mine", "6")
    moved(registry, "7", "1")
    assert registry.delete_duplicates(registry.with_content(versions[0].content)).number == "1"
    assert [version.number for version in registry.versions()] == ["1", "2", "3", "4", "6", "7", "8"]


def test_a_move_to_a_version_that_was_deleted_meanwhile_leaves_no_champion(registry, versions, client):
    moved(registry, "1")
    client.delete_model_version(registry.name, "2")
    registry.aliases.promote("2", "1", "it was there a moment ago")
    assert registry.aliases.reconcile().champion == "1"
    assert in_mlflow(client, registry) == {"champion": "1"}


class FailingClient(MlflowClient):
    """A client one of whose methods fails as it does where the server went away."""

    def __init__(self, address: str, method: str):
        super().__init__(address)
        setattr(self, method, self._fail)

    def _fail(self, *_, **__):
        raise MlflowException("the server went away")


def failing(address: str, registry: Registry, method: str) -> Aliases:
    """The aliases of a registry whose server does not answer calls of `method`."""
    return registry_at(address, registry.name, FailingClient(address, method)).aliases


@pytest.mark.parametrize("method", ["search_model_versions", "set_registered_model_alias", "set_model_version_tag"])
def test_a_move_that_fails_once_it_is_recorded_says_so_and_is_finished_next_time(
    registry, versions, address, client, method
):
    moved(registry, "1")
    with pytest.raises(UserError) as refused:
        failing(address, registry, method).promote("2", "1", "as the test wants it")
    assert str(refused.value) == (
        f"champion: the move from version 1 to version 2 is recorded but not finished: MLflow at {address} does not"
        " answer: the server went away; the next 'earmark register', 'earmark registry promote' or 'earmark registry"
        " rollback' finishes it, unless another move came first"
    )
    assert registry.aliases.reconcile().champion == "2"
    assert in_mlflow(client, registry) == {"champion": "2"}


def test_a_move_that_fails_before_it_is_recorded_is_not_made_later(registry, versions, address, client):
    moved(registry, "1")
    with pytest.raises(UserError, match=r"^MLflow at .* does not answer: the server went away$"):
        failing(address, registry, "get_registered_model").promote("2", "1", "never to be")
    assert registry.aliases.reconcile().champion == "1"


def test_while_a_move_may_still_be_going_on_an_alias_elsewhere_is_its_doing(registry, versions, address, client):
    moved(registry, "1")
    with pytest.raises(UserError):
        failing(address, registry, "set_registered_model_alias").promote("2", "1", "unfinished")
    client.set_registered_model_alias(registry.name, "champion", "3")
    state = registry.aliases.reconcile()
    assert (state.champion, state.valid_moves[-1].how) == ("2", "repair")
    assert in_mlflow(client, registry) == {"champion": "2"}


def test_a_move_that_was_finished_by_another_process_may_be_taken_back_by_hand(registry, versions, address, client):
    moved(registry, "1")
    with pytest.raises(UserError):
        failing(address, registry, "set_registered_model_alias").promote("2", "1", "unfinished")
    assert registry.aliases.reconcile().valid_moves[-1].how == "repair"
    client.set_registered_model_alias(registry.name, "champion", "1")
    state = long_after(address, registry).reconcile()
    assert (state.champion, state.valid_moves[-1].how) == ("1", "outside")
    assert in_mlflow(client, registry) == {"champion": "1"}


def test_a_challengers_alias_that_its_promotion_left_is_taken_away_however_late(registry, versions, address, client):
    moved(registry, "1")
    assert registry.aliases.admit("challenger", "2", registry.aliases.state(), "not better")
    with pytest.raises(UserError):
        failing(address, registry, "delete_registered_model_alias").promote("2", "1", "unfinished")
    assert in_mlflow(client, registry) == {"champion": "2", "challenger": "2"}
    assert long_after(address, registry).reconcile().valid_moves[-1].how == "repair"
    assert in_mlflow(client, registry) == {"champion": "2"}


def test_of_two_aliases_the_one_is_finished_that_was_begun_and_the_other_respected(registry, versions, address, client):
    moved(registry, "1")
    with pytest.raises(UserError):
        failing(address, registry, "set_registered_model_alias").promote("2", "1", "unfinished")
    client.set_registered_model_alias(registry.name, "challenger", "1")
    state = long_after(address, registry).reconcile()
    assert state.aliases == in_mlflow(client, registry) == {"champion": "2", "challenger": "1"}
    assert (state.valid_moves[-1].alias, state.valid_moves[-1].how) == ("challenger", "outside")


@pytest.mark.parametrize("reference", ["abc", "0", "999", "01", "", "a/b", "../1", "latest", "1 or 1=1", "²"])
def test_what_is_no_version_is_refused_with_what_there_is(registry, versions, reference):
    moved(registry, "2")
    with pytest.raises(UserError, match=r"expected one of 1, 2, 3, 4, champion$"):
        registry.find(reference)


def test_an_empty_registry_says_so(registry):
    assert registry.versions() == []
    with pytest.raises(UserError, match="nor any other"):
        registry.find("1")


CHECKS = (
    WrittenCheck("accuracy", Outcome.PASSED, "90.00 %", "at least 50.00 %"),
    WrittenCheck("labels of the champion", Outcome.NOT_MEASURED, "there was none", "all of them"),
)
BETTER = WrittenVerdict(True, "better beyond chance", CHECKS)
WORSE = WrittenVerdict(False, "as good as any", CHECKS)


def test_a_version_has_its_verdict_as_a_tag_and_in_its_description(registry, versions, client):
    assert admit(registry, versions[0], "some_candidate", lambda champion: BETTER) == BETTER
    version = client.get_model_version(registry.name, "1")
    assert version.tags["verdict"] == "champion: better beyond chance"
    assert version.description == "some_candidate\n\nchampion: better beyond chance"
    assert [*version.aliases] == ["champion"]
    assert registry.aliases.state().valid_moves[-1].why == "better beyond chance"


def test_of_two_runs_at_once_the_second_is_compared_again_with_the_new_champion(registry, versions, address, client):
    moved(registry, "1")
    champions = []

    def compare(champion: str) -> WrittenVerdict:
        """Better than 1; but while it is compared, another run makes 2 champion, which is better still."""
        champions.append(champion)
        if champion == "1":
            other = registry_at(address, registry.name)
            assert admit(other, versions[1], "some_candidate", lambda champion: BETTER) == BETTER
            return BETTER
        return WORSE

    assert admit(registry, versions[2], "some_candidate", compare) == WORSE
    assert champions == ["1", "2"]
    assert in_mlflow(client, registry) == {"champion": "2", "challenger": "3"}
    assert client.get_model_version(registry.name, "3").tags["verdict"] == "challenger: as good as any"


def test_a_challenger_whose_champion_was_replaced_meanwhile_is_compared_with_the_new_one(
    registry, versions, address, client
):
    moved(registry, "1")
    champions = []

    def compare(champion: str) -> WrittenVerdict:
        """Never better; but while it is compared for the first time, a person makes 2 champion."""
        champions.append(champion)
        if champion == "1":
            moved(registry_at(address, registry.name), "2")
        return WORSE

    assert admit(registry, versions[2], "some_candidate", compare) == WORSE
    assert champions == ["1", "2"]
    assert in_mlflow(client, registry) == {"champion": "2", "challenger": "3"}


def test_of_two_first_versions_at_once_one_is_compared_with_the_other(registry, versions, address, client):
    def compare(champion: str) -> WrittenVerdict:
        if champion == "":
            admit(registry_at(address, registry.name), versions[1], "some_candidate", lambda champion: BETTER)
            return BETTER
        return WORSE

    assert admit(registry, versions[0], "some_candidate", compare) == WORSE
    assert in_mlflow(client, registry) == {"champion": "2", "challenger": "1"}


def test_a_version_that_has_its_place_is_not_compared_again(registry, versions):
    admit(registry, versions[0], "some_candidate", lambda champion: WORSE)
    assert admit(registry, versions[0], "some_candidate", pytest.fail) is None


def test_a_registration_that_was_interrupted_before_its_verdict_is_finished(registry, versions, client):
    def interrupted(champion: str) -> WrittenVerdict:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        admit(registry, versions[0], "some_candidate", interrupted)
    known = registry.with_content(versions[0].content)
    assert admit(registry, known, "some_candidate", lambda champion: BETTER) == BETTER
    assert in_mlflow(client, registry) == {"champion": "1"}


GONE = [
    FileNotFoundError("no such file"),
    MlflowException("no such run", RESOURCE_DOES_NOT_EXIST),
    requests.HTTPError("404", response=answer(404)),
    ClientError({"Error": {"Code": "404"}, "ResponseMetadata": {"HTTPStatusCode": 404}}, "HeadObject"),
]
SILENT = [
    ConnectionResetError("reset by peer"),
    MlflowException("the server went away"),
    requests.HTTPError("503", response=answer(503)),
    ClientError({"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": 503}}, "GetObject"),
    EndpointConnectionError(endpoint_url="http://127.0.0.1:9"),
]


@pytest.mark.parametrize(("error", "is_gone"), [(error, True) for error in GONE] + [(error, False) for error in SILENT])
def test_what_is_gone_is_told_from_what_does_not_answer(error, is_gone):
    with pytest.raises(UserError) as refused, connection.translated_errors("models:/earmark/1"):
        raise error
    assert isinstance(refused.value, ServiceUnavailableError) is not is_gone


def test_files_that_are_not_what_was_registered_are_refused(registry, address, home, tmp_path):
    folder = some_model(tmp_path / "some_candidate", "as it was trained")
    content = hashing.content_sha256(folder / "artifacts/some_candidate")
    version = registry.add(logged_run(address, folder), content, {})
    assert (registry.download(version.number, tmp_path / "whole") / "model.keras").read_text() == "as it was trained"
    [stored] = [path for path in home.rglob("model.keras") if path.read_text() == "as it was trained"]
    stored.write_text("as it was not")
    with pytest.raises(UserError, match="version 1 are not those that were registered"):
        registry.download(version.number, tmp_path / "damaged")
    shutil.rmtree(stored.parents[2])
    with pytest.raises(UserError, match="holds no artifacts"):
        registry.download(version.number, tmp_path / "gone")
