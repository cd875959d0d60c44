"""Two clones of a repository with a DVC remote: what one publishes, the other brings in; nothing else is touched."""

import socket
import subprocess
from pathlib import Path

import pytest
from conftest import BIN
from support.dvc_remote import set_absent_remote

from earmark.errors import NetworkError, UserError
from earmark.versioning import git, sharing

STAGE = """
stages:
  measure:
    cmd: mkdir -p data/raw reports && cp source.txt data/raw/one && cp source.txt reports/metrics.json
    deps: [source.txt]
    outs: [data/raw]
    metrics:
      - reports/metrics.json: {cache: false}
"""


def shell(folder: Path, *command: object) -> str:
    done = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def clones(tmp_path, monkeypatch):
    """The folders of two clones, the first of which has published its first results."""
    # Git knows nobody here, as on a fresh worker.
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    shell(tmp_path, "git", "init", "-q", "--bare", "-b", "main", "team.git")
    shell(tmp_path, "git", "clone", "-q", "team.git", "first")
    first, second = tmp_path / "first", tmp_path / "second"
    shell(first, "git", "checkout", "-q", "-b", "main")
    (first / "dvc.yaml").write_text(STAGE)
    (first / "source.txt").write_text("1")
    shell(first, BIN / "dvc", "init", "-q")
    shell(first, BIN / "dvc", "remote", "add", "-q", "-d", "team", tmp_path / "remote")
    shell(first, "git", "add", "-A")
    shell(first, "git", *sharing.AUTHOR, "commit", "-qm", "start")
    shell(first, "git", "push", "-q", "origin", "main")
    shell(tmp_path, "git", "clone", "-q", "team.git", "second")
    monkeypatch.chdir(first)
    run_and_publish(first)
    return first, second


def run_and_publish(clone: Path) -> int | None:
    shell(clone, BIN / "dvc", "repro", "-q")
    sharing.push_data()
    sharing.commit_results()
    return sharing.push_commits()


def test_what_one_clone_publishes_another_has_with_its_data(clones, monkeypatch, tmp_path):
    first, second = clones
    monkeypatch.chdir(second)
    assert sharing.bring_in(str(tmp_path / "team.git"), "main") == sharing.Update(commits=1, objects=2)
    assert (second / "data/raw/one").read_text() == (second / "reports/metrics.json").read_text() == "1"
    assert shell(second, BIN / "dvc", "status", "-q") == ""
    assert shell(first, "git", "status", "--porcelain", "dvc.lock", "reports/metrics.json") == ""
    assert sharing.bring_in("", "main") == sharing.Update(commits=0, objects=0)


def test_nothing_is_committed_but_results_and_nothing_twice(clones):
    first, _ = clones
    (first / "source.txt").write_text("2")
    (first / "own.txt").write_text("mine")
    assert run_and_publish(first) == 1
    assert shell(first, "git", "show", "--format=%an", "--name-only").split() == [
        "earmark",
        "dvc.lock",
        "reports/metrics.json",
    ]
    assert sharing.push_data() == 0
    assert not sharing.commit_results()
    assert sharing.push_commits() == 0


def test_tags_are_made_once_and_reach_the_remote(clones, tmp_path, monkeypatch):
    first, second = clones
    commit = shell(first, "git", "rev-parse", "HEAD").strip()
    tags = {"earmark-v1": commit, "earmark-v2": "unknown", "earmark-v3": "0" * 40}
    assert sharing.push_tags(tags) == ["earmark-v1"]
    assert sharing.push_tags(tags) == []
    assert shell(tmp_path / "team.git", "git", "tag") == "earmark-v1\n"
    monkeypatch.chdir(second)
    shell(second, "git", "pull", "-q", "--no-tags")
    assert sharing.push_tags(tags) == ["earmark-v1"]  # the same that the other clone made
    sharing.bring_in("", "main")


def test_commits_of_others_come_below_and_conflicting_results_are_refused(clones, monkeypatch):
    first, second = clones
    monkeypatch.chdir(second)
    sharing.bring_in("", "main")
    (second / "notes.txt").write_text("of a teammate")
    shell(second, "git", "add", "notes.txt")
    shell(second, "git", *sharing.AUTHOR, "commit", "-qm", "notes")
    shell(second, "git", "push", "-q", "origin", "main")
    monkeypatch.chdir(first)
    (first / "source.txt").write_text("2")
    assert run_and_publish(first) == 1
    assert (first / "notes.txt").exists()
    monkeypatch.chdir(second)
    (second / "source.txt").write_text("3")
    with pytest.raises(UserError, match="others have published results on main"):
        run_and_publish(second)
    assert shell(second, "git", "status", "--porcelain", "dvc.lock") == ""
    with pytest.raises(UserError, match="1 commits of this clone were never published"):
        shell(second, "git", "checkout", "-q", "source.txt")
        sharing.bring_in("", "main")


def test_unpublished_results_give_way_to_newer_published_ones(clones, monkeypatch):
    first, second = clones
    monkeypatch.chdir(second)
    sharing.bring_in("", "main")
    (second / "source.txt").write_text("interrupted")
    shell(second, BIN / "dvc", "repro", "-q")
    shell(second, "git", "checkout", "-q", "source.txt")
    monkeypatch.chdir(first)
    (first / "source.txt").write_text("2")
    run_and_publish(first)
    monkeypatch.chdir(second)
    sharing.bring_in("", "main")
    assert (second / "reports/metrics.json").read_text() == "2"
    assert (second / "data/raw/one").read_text() == "2"


def test_a_clone_that_is_not_as_expected_is_left_alone(clones, monkeypatch):
    first, _ = clones
    with pytest.raises(UserError, match=r"a clone of .*team\.git; expected https://elsewhere/x$"):
        sharing.bring_in("https://user:secret@elsewhere/x", "main")
    with pytest.raises(UserError, match="main is checked out; expected release"):
        sharing.bring_in("", "release")
    (first / "dvc.yaml").write_text(STAGE + "# changed")
    with pytest.raises(UserError, match=r"dvc\.yaml changed since the last commit"):
        sharing.bring_in("", "main")
    assert (first / "dvc.yaml").read_text().endswith("# changed")


def test_a_clone_without_remotes_shares_nothing_and_goes_on(clones):
    first, _ = clones
    shell(first, "git", "remote", "remove", "origin")
    shell(first, BIN / "dvc", "remote", "remove", "-q", "team")
    (first / "source.txt").write_text("2")
    assert run_and_publish(first) is None
    assert sharing.push_data() is None
    assert sharing.push_tags({"earmark-v1": shell(first, "git", "rev-parse", "HEAD").strip()}) == ["earmark-v1"]


def test_a_patch_for_the_registry_has_no_settings_of_dvc(clones):
    first, _ = clones
    shell(first, BIN / "dvc", "remote", "modify", "-q", "team", "url", "ssh://user:c4nary-9f2e@127.0.0.1/data")
    (first / "source.txt").write_text("uncommitted")
    patch = git.uncommitted_patch()
    assert b"uncommitted" in patch
    assert b"c4nary" not in patch
    assert git.git_state()["git_dirty"] == "true"


def test_a_dvc_remote_that_does_not_answer_may_answer_later(clones):
    first, _ = clones
    set_absent_remote()
    with pytest.raises(NetworkError, match=r"^dvc: ") as error:
        sharing.push_data()
    assert error.value.exit_code == 75
    shell(first, "rm", "-rf", "data", ".dvc/cache/files")
    with pytest.raises(NetworkError, match=r"^dvc: "):
        sharing.pull_data({})


def test_what_a_refused_stage_left_stays_and_does_not_stand_in_the_way(clones):
    first, _ = clones
    (first / "data/raw/one").write_text("half done")
    assert sharing.bring_in("", "main") == sharing.Update(commits=0, objects=0)
    assert (first / "data/raw/one").read_text() == "half done"


def test_results_that_were_never_tracked_give_way_too(clones, monkeypatch, tmp_path):
    _, second = clones
    monkeypatch.chdir(second)
    (second / "reports").mkdir()
    (second / "reports/metrics.json").write_text("own")
    (second / "dvc.lock").write_text("schema: '2.0'\n")
    sharing.bring_in("", "main")
    assert (second / "reports/metrics.json").read_text() == "1"


def test_the_lists_that_dvc_keeps_of_ignored_outputs_are_published_too(clones):
    first, _ = clones
    assert "data/.gitignore" in shell(first, "git", "ls-files").split()
    (first / "data/.gitignore").write_text("/raw\n/more\n")
    sharing.bring_in("", "main")
    assert sharing.commit_results()


def test_results_on_no_branch_are_refused(clones):
    first, _ = clones
    shell(first, "git", "checkout", "-q", "--detach")
    with pytest.raises(UserError, match="no branch is checked out"):
        sharing.push_commits()


def test_on_no_branch_nothing_is_brought_in(clones):
    first, _ = clones
    shell(first, "git", "checkout", "-q", "--detach", "HEAD~1")
    before = shell(first, "git", "rev-parse", "HEAD")
    with pytest.raises(UserError, match="no branch is checked out"):
        sharing.bring_in("", sharing.current_branch())
    assert shell(first, "git", "rev-parse", "HEAD") == before


def test_uncommitted_changes_of_a_file_that_others_changed_stay_as_they_are(clones):
    first, second = clones
    shell(second, "git", "pull", "-q")
    (second / "source.txt").write_text("theirs")
    shell(second, "git", *sharing.AUTHOR, "commit", "-qam", "their change")
    shell(second, "git", "push", "-q")
    (first / "reports/metrics.json").write_text("3")
    sharing.commit_results()
    (first / "source.txt").write_text("mine")
    with pytest.raises(UserError, match=r"source.txt changed here and in new commits of others"):
        sharing.push_commits()
    assert (first / "source.txt").read_text() == "mine"


def test_a_git_remote_that_does_not_answer_may_answer_later(clones):
    first, _ = clones
    shell(first, "git", "remote", "set-url", "origin", "http://alice:s3cr3t@127.0.0.1:9/team.git")
    with pytest.raises(NetworkError, match="git fetch") as error:
        sharing.push_commits()
    assert "s3cr3t" not in str(error.value)


def test_what_the_dvc_remote_lacks_is_named(clones, tmp_path):
    first, _ = clones
    shell(first, "rm", "-rf", "data", ".dvc/cache/files", tmp_path / "remote")
    with pytest.raises(UserError, match=r"dvc: the remote lacks data/raw, which dvc\.lock names") as error:
        sharing.pull_data({})
    assert error.value.exit_code == 2


def test_a_remote_of_git_that_never_answers_is_given_up(clones, monkeypatch):
    monkeypatch.setattr(git, "TIMEOUT_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        shell(clones[0], "git", "remote", "set-url", "origin", f"git://127.0.0.1:{silent.getsockname()[1]}/team.git")
        with pytest.raises(NetworkError, match="git fetch --quiet origin did not end within 1 s"):
            sharing.push_commits()
