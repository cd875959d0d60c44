"""The registry with other processes at it, some of which are killed, against a real MLflow server."""

import json
import signal
from collections.abc import Callable, Iterator

import pytest
from support.forking import Forked, forking
from support.mlflow_server import (
    client,
    in_mlflow,
    logged_run,
    long_after,
    moved,
    registry,
    serving,
    some_model,
    versions,
)

__all__ = ["client", "registry", "versions"]  # fixtures


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("mlflow")) as url:
        yield url


@pytest.fixture(scope="module")
def other() -> Iterator[Callable[..., Forked]]:
    """Starts another process at a registry, as registry_child has it."""
    with forking("support.registry_child") as fork:
        yield lambda address, registry, *arguments: fork.start(address, registry.name, *arguments)


def started(others: list[Forked]) -> list[Forked]:
    for process in others:
        assert process.output.readline() == "ready\n"
    for process in others:
        process.input.write("go\n")
        process.input.flush()
    return others


def test_processes_that_promote_at_once_have_one_champion_after_the_other(registry, versions, address, client, other):
    others = started([other(address, registry, "move", process.number, "3") for process in versions])
    ended = [process.end() for process in others]
    assert [code for code, _ in ended] == [0] * len(others)
    answers = [json.loads(line) for _, lines in ended for line in lines]
    state = registry.aliases.reconcile()
    assert sorted((before, after) for before, after, counts in answers if counts) == sorted(
        (move.before, move.after) for move in state.valid_moves if move.how == "register"
    )
    assert {move.how for move in state.valid_moves} <= {"register", "repair"}  # nothing is taken for a stranger's
    assert state.pending == ()
    assert in_mlflow(client, registry) == {"champion": state.champion}


def test_processes_that_are_killed_among_others_leave_what_the_record_says(registry, versions, address, client, other):
    others = started([other(address, registry, "move", process.number, "4") for process in versions])
    for victim in others[:2]:
        victim.output.readline()  # it is amid its moves
        victim.kill()
    ended = [process.end() for process in others]
    assert [code for code, _ in ended] == [-signal.SIGKILL, -signal.SIGKILL, 0, 0]
    state = registry.aliases.reconcile()
    assert {move.how for move in state.valid_moves} <= {"register", "repair"}
    assert in_mlflow(client, registry) == {"champion": state.champion}


def test_what_a_killed_process_began_is_finished_by_the_next(registry, versions, address, client, other):
    moved(registry, "1")
    [victim] = started([other(address, registry, "killed", "set_registered_model_alias", "2")])
    assert victim.end()[0] == -signal.SIGKILL
    assert in_mlflow(client, registry) == {"champion": "1"}
    state = registry.aliases.reconcile()
    assert (state.champion, state.valid_moves[-1].how) == ("2", "repair")
    assert in_mlflow(client, registry) == {"champion": "2"}
    assert registry.aliases.reconcile().valid_moves == state.valid_moves


def test_a_killed_process_that_had_moved_the_alias_leaves_nothing_to_do(registry, versions, address, client, other):
    moved(registry, "1")
    [victim] = started([other(address, registry, "killed", "set_model_version_tag", "2")])
    assert victim.end()[0] == -signal.SIGKILL
    state = registry.aliases.reconcile()
    assert (state.champion, [move.how for move in state.valid_moves]) == ("2", ["promote", "register"])
    assert in_mlflow(client, registry) == {"champion": "2"}


def test_a_killed_process_is_not_waited_for_for_ever(registry, versions, address, client, other):
    """While its move may still be going on, an alias that differs is its doing; afterwards it is somebody else's."""
    [victim] = started([other(address, registry, "killed", "set_model_version_tag", "2")])
    victim.end()
    later = long_after(address, registry)
    assert later.reconcile().pending
    assert not later.state().pending
    client.set_registered_model_alias(registry.name, "champion", "3")
    assert (later.reconcile().champion, later.state().valid_moves[-1].how) == ("3", "outside")


def test_what_a_killed_process_began_is_not_put_over_what_a_person_did_long_after(
    registry, versions, address, client, other
):
    moved(registry, "1")
    [victim] = started([other(address, registry, "killed", "set_registered_model_alias", "2")])
    assert victim.end()[0] == -signal.SIGKILL
    client.set_registered_model_alias(registry.name, "champion", "3")
    later = long_after(address, registry)
    state = later.reconcile()
    assert (state.champion, state.valid_moves[-1].how) == ("3", "outside")
    assert in_mlflow(client, registry) == {"champion": "3"}
    assert later.reconcile().valid_moves[-1].number == state.valid_moves[-1].number
    assert not later.state().pending


def test_what_a_killed_process_began_long_ago_is_finished_where_nobody_moved_the_alias(
    registry, versions, address, client, other
):
    moved(registry, "1")
    [victim] = started([other(address, registry, "killed", "set_registered_model_alias", "2")])
    assert victim.end()[0] == -signal.SIGKILL
    later = long_after(address, registry)
    state = later.reconcile()
    assert (state.champion, state.valid_moves[-1].how) == ("2", "repair")
    assert in_mlflow(client, registry) == {"champion": "2"}
    assert not later.state().pending


@pytest.mark.parametrize(("method", "left_at"), [("set_registered_model_alias", "1"), ("set_model_version_tag", "")])
def test_a_version_that_was_deleted_after_its_mover_was_killed_is_given_up(
    registry, versions, address, client, other, method, left_at
):
    moved(registry, "1")
    [victim] = started([other(address, registry, "killed", method, "2")])
    assert victim.end()[0] == -signal.SIGKILL
    client.delete_model_version(registry.name, "2")
    state = registry.aliases.reconcile()
    assert (state.champion, state.valid_moves[-1].how) == (left_at, "outside")
    assert [move.how for move in state.pending] == ["register"]
    assert registry.aliases.reconcile().valid_moves == state.valid_moves
    assert long_after(address, registry).reconcile().valid_moves == state.valid_moves
    assert in_mlflow(client, registry) == ({"champion": left_at} if left_at else {})


def test_one_content_is_one_version_however_many_register_it_at_once(registry, address, other, tmp_path):
    run = logged_run(address, some_model(tmp_path / "some_candidate", "the same"))
    registry.add(run, "another content", {})
    others = started([other(address, registry, "add", run, "the same content") for _ in range(4)])
    answers = {line for process in others for line in process.end()[1]}
    assert len(answers) == 1
    assert [version.number for version in registry.versions() if version.content == "the same content"] == list(answers)


def test_trainings_that_begin_at_once_on_the_same_clips_all_begin(registry, address, other):
    others = started([other(address, registry, "train") for _ in range(4)])
    assert [process.end()[0] for process in others] == [0] * 4
