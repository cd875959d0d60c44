"""What a version is registered with: git's state, what git lacks, and DVC's hashes of files as they are."""

import contextlib
import json
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from support.dvc_remote import set_absent_remote, set_remote

from earmark import params
from earmark.errors import UserError
from earmark.provenance import environment, version_record
from earmark.versioning import dvc_cache, dvc_lock
from earmark.versioning import git as code
from earmark.versioning.dvc import objects


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def dvc(run, *arguments: str) -> None:
    done = run(Path(), "dvc", *arguments)
    assert done.returncode == 0, done.stderr


def write(path: str, content: bytes | str) -> Path:
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content if isinstance(content, bytes) else content.encode())
    return target


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A git repository with one commit, as the working directory."""
    monkeypatch.chdir(tmp_path)
    commit_one()
    return tmp_path


def commit_one() -> None:
    git("init", "-q")
    git("config", "user.name", "test")
    git("config", "user.email", "test@example.invalid")
    write("src/old.py", "a = 1\n")
    write("notes.bin", bytes(range(256)))
    write(".gitignore", "*.log\n/copy/\n")
    git("add", "-A")
    git("commit", "-qm", "one")


@pytest.fixture(scope="module")
def initialised(tmp_path_factory, run):
    """A git repository with one commit, and DVC's; tests change copies of it."""
    folder = tmp_path_factory.mktemp("initialised")
    with contextlib.chdir(folder):
        commit_one()
        dvc(run, "init", "-q")
    return folder


@pytest.fixture(scope="module")
def pushed(tmp_path_factory, run, initialised):
    """The same with a folder, in DVC's cache and in a remote too."""
    folder = shutil.copytree(initialised, tmp_path_factory.mktemp("pushed"), dirs_exist_ok=True)
    with contextlib.chdir(folder):
        write("clips/a.bin", b"a" * 1000)
        write("clips/deep/b.bin", b"b" * 1000)
        set_remote(url="../copy")
        dvc(run, "add", "-q", "clips")
        dvc(run, "push", "-q")
    return folder


@pytest.fixture
def dvc_repository(initialised, tmp_path, monkeypatch):
    """Git's and DVC's repository as the working directory."""
    shutil.copytree(initialised, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_a_commit_and_its_patch_give_the_code_back_and_leave_no_trace_here(repository, tmp_path):
    write("src/old.py", "a = 2\n")
    write("notes.bin", bytes(reversed(range(256))))
    write("src/with space/naïve.py", "b = 1\n")
    write("src/blob", b"\0\1\2")
    write("staged.py", "c = 1\n")
    git("add", "staged.py")
    before, status = files(repository), git("status", "--porcelain")
    code.check_out(git("rev-parse", "HEAD"), code.uncommitted_patch(), tmp_path / "copy")
    after = files(repository)
    copied = {name.removeprefix("copy/"): content for name, content in after.items() if name.startswith("copy/")}
    assert copied == before
    assert {name: content for name, content in after.items() if not name.startswith("copy/")} == before
    assert git("status", "--porcelain") == status


def test_recordings_results_and_ignored_files_are_in_no_patch(repository):
    for path in ("dvc.lock", "reports/metrics.json", "data/clip.wav", "src/run.log"):
        write(path, "x")
    git("add", "dvc.lock", "reports", "data")
    assert code.uncommitted_patch() == b""
    assert code.git_state()["git_dirty"] == "false"


@pytest.mark.parametrize("path", ["src/old.py", "flows/new.py"], ids=["changed", "new"])
def test_a_tree_is_dirty_where_code_is_changed_or_new(repository, path):
    assert code.git_state() == {"git_commit": git("rev-parse", "HEAD"), "git_dirty": "false"}
    write(path, "changed = True\n")
    assert code.git_state()["git_dirty"] == "true"
    assert path.encode() in code.uncommitted_patch()


def test_settings_of_the_user_change_no_patch(repository):
    write("src/old.py", "a = 2\n")
    plain = code.uncommitted_patch()
    for key, value in (("color.ui", "always"), ("diff.noprefix", "true"), ("diff.external", "false")):
        git("config", key, value)
    assert code.uncommitted_patch() == plain


def test_a_commit_that_no_branch_has_any_more_is_checked_out(repository, tmp_path):
    write("src/old.py", "a = 3\n")
    git("commit", "-qam", "two")
    dropped = git("rev-parse", "HEAD")
    git("reset", "-q", "--hard", "HEAD~1")
    code.check_out(dropped, b"", tmp_path / "copy")
    assert (tmp_path / "copy/src/old.py").read_text() == "a = 3\n"


def test_a_commit_that_is_not_here_is_refused(repository, tmp_path):
    with pytest.raises(UserError, match="no commit 0123"):
        code.check_out("0123" * 10, b"", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_patch_that_does_not_apply_is_refused(repository, tmp_path):
    with pytest.raises(UserError, match="apply"):
        code.check_out(git("rev-parse", "HEAD"), b"no patch", tmp_path / "copy")


def test_hashes_are_those_that_dvc_records(dvc_repository, run):
    write("clips/deep/er.bin", b"1" * 3_000_000)
    write("clips/naïve clip.bin", b"\r\n")
    write("clips/.left.partial", b"ignored")
    write("clips/empty", b"")
    write("one.bin", b"\r\n")
    write(".dvcignore", ".*.partial*\n")
    dvc(run, "add", "-q", "clips", "one.bin")
    with objects() as known:
        hashes = {path: known.md5(Path(path)) for path in ("clips", "one.bin")}
        assert known.files_of(Path("clips")) == known.files(hashes["clips"])
    recorded = {path: yaml.safe_load(Path(f"{path}.dvc").read_text())["outs"][0]["md5"] for path in hashes}
    assert hashes == recorded


def test_a_file_that_was_changed_in_place_has_another_hash(dvc_repository, run):
    write("one.bin", b"first")
    dvc(run, "add", "-q", "one.bin")
    with objects() as known:
        before = known.md5(Path("one.bin"))
        write("one.bin", b"other")
        assert known.md5(Path("one.bin")) != before


@pytest.fixture
def stored(pushed, tmp_path, monkeypatch):
    """The hash of a folder that DVC's cache and a remote of the working directory have."""
    shutil.copytree(pushed, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return yaml.safe_load(Path("clips.dvc").read_text())["outs"][0]["md5"]


def damage(path: Path) -> None:
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    path.chmod(0o444)  # as DVC leaves what it need not check again


def in_cache(md5: str) -> Path:
    return Path(".dvc/cache") / dvc_cache.object_path(md5)


def test_what_the_cache_has_damaged_or_not_at_all_comes_from_the_remote(stored, tmp_path):
    with objects() as known:
        members = known.files(stored)
        damage(in_cache(members["a.bin"]))
        in_cache(members["deep/b.bin"]).unlink()
        in_cache(stored).unlink()
        held = {name: known.look_up(md5) for name, md5 in members.items()}
        known.restore(stored, tmp_path / "restored")
    assert {name: held_object.place for name, held_object in held.items()} == dict.fromkeys(members, "remote 'storage'")
    assert [Path(path).name for path in held["a.bin"].damaged] == [members["a.bin"][2:]]
    assert files(tmp_path / "restored") == {"a.bin": b"a" * 1000, "deep/b.bin": b"b" * 1000}
    assert in_cache(members["a.bin"]).exists(), "what is damaged is for the user to look at"


def test_what_is_damaged_everywhere_is_refused_and_named(stored, tmp_path):
    with objects() as known:
        md5 = known.files(stored)["a.bin"]
        damage(in_cache(md5))
        damage(tmp_path / "copy" / dvc_cache.object_path(md5))
        assert known.look_up(md5).place == ""
        assert len(known.look_up(md5).damaged) == 2
        with pytest.raises(
            UserError, match=f"a.bin cannot be restored: {md5} has no intact copy in DVC's cache and remote"
        ):
            known.restore(stored, tmp_path / "restored")


def test_a_remote_that_does_not_answer_is_named(stored, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    set_absent_remote()
    with objects() as known:
        assert known.look_up(stored).place == "DVC's cache"
        in_cache(stored).unlink()
        assert known.files(stored) is None
        assert "remote 'storage' does not answer" in known.missing_message(stored)


def test_what_the_cache_does_not_give_is_one_file_and_not_all_of_it(stored, tmp_path):
    with objects() as known:
        members = known.files(stored)
        in_the_way = in_cache(members["a.bin"])
        in_the_way.unlink()
        in_the_way.mkdir()
        held = {name: known.look_up(md5) for name, md5 in members.items()}
        known.restore(stored, tmp_path / "restored")
        assert {name: held_object.place for name, held_object in held.items()} == {
            "a.bin": "remote 'storage'",
            "deep/b.bin": "DVC's cache",
        }
        assert (held["a.bin"].damaged, list(known.unreadable)) == ((), [members["a.bin"]])  # nothing says "remove it"
        assert files(tmp_path / "restored") == {"a.bin": b"a" * 1000, "deep/b.bin": b"b" * 1000}
        (tmp_path / "copy" / dvc_cache.object_path(members["a.bin"])).unlink()
        with pytest.raises(UserError, match=r"a\.bin cannot be restored: .* DVC's cache cannot read it .*[Dd]irectory"):
            known.restore(stored, tmp_path / "again")


def test_a_list_that_leads_out_of_its_folder_is_refused(dvc_repository, tmp_path):
    listing = json.dumps([{"md5": "0" * 32, "relpath": "../../evil"}]).encode()
    write("list", listing)
    with objects() as known:
        md5 = known.md5(Path("list"))
        write(str(in_cache(f"{md5}.dir")), listing)
        with pytest.raises(UserError, match=r"lists '\.\./\.\./evil'"):
            known.restore(f"{md5}.dir", tmp_path / "restored")


def test_outside_of_dvc_a_sentence_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^dvc: you are not inside of a DVC repository"), objects():
        pass


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n")), min_size=1))
@settings(max_examples=50)
def test_the_hash_of_speakers_is_of_who_they_are_alone(speakers):
    mixed = [*reversed(speakers), *speakers]
    assert version_record.speakers_sha256(mixed) == version_record.speakers_sha256(speakers)
    assert version_record.speakers_sha256([*speakers, "".join(speakers) + "+"]) != version_record.speakers_sha256(
        speakers
    )


STAGES = {
    "ingest": {"cmd": "true", "outs": [{"data/raw": {"persist": True}}]},
    "validate": {"cmd": "true", "outs": [{"data/accepted.parquet": {"persist": True}}]},
    "extract": {"cmd": "true", "outs": [{"data/features": {"persist": True}}]},
    "train": {"cmd": "true", "outs": [{"models/tc_resnet": {"persist": True}}]},
}


@pytest.fixture
def checkout(dvc_repository):
    """A checkout in which outputs lie of which DVC knows nothing yet."""
    write("params.yaml", (ROOT / "params.yaml").read_bytes())
    write("dvc.yaml", yaml.safe_dump({"stages": STAGES}))
    for path in ("data/raw/manifest.parquet", "data/raw/a.tar", "data/features/a.npy", "models/tc_resnet/model.keras"):
        write(path, path)
    pd.DataFrame({"speaker": ["b", "a", "b"]}).to_parquet("data/accepted.parquet")
    write("reports/metrics.json", "{}")
    return dvc_repository


def test_stages_that_were_run_by_hand_are_no_stages_of_dvc(checkout):
    provenance = version_record.gather("tc_resnet", params.load())
    assert provenance.record["dvc_lock"] == "absent: no stage has run under DVC"
    assert provenance.record["validation"] == "unknown: the result is missing"
    assert "dvc.lock" not in provenance.files


def test_the_record_has_the_hashes_of_what_lies_here(checkout, run, monkeypatch):
    monkeypatch.setenv("EARMARK_FLOW_RUN_ID", "run-7")
    write("reports/validation/result.json", json.dumps({"passed": True, "sentence": "3 clips accepted"}))
    dvc(run, "repro", "-q")
    record = version_record.gather("tc_resnet", params.load()).record
    recorded = dvc_lock.output_hashes()
    assert {path: record[f"dvc.{path}"] for path in recorded_paths()} == recorded
    assert record["dvc.data/raw/manifest.parquet"] == md5sum("data/raw/manifest.parquet")
    assert record["sha256.requirements.lock"] == sha256sum(environment.LOCK)
    assert record["dvc_lock"] == "agrees"
    assert record["validation"] == "passed: 3 clips accepted"
    assert record["prefect_flow_run_id"] == "run-7"


def test_a_stage_that_was_run_outside_dvc_is_not_claimed_to_be_dvcs(checkout, run):
    dvc(run, "repro", "-q")
    write("models/tc_resnet/model.keras", "trained by hand")
    record = version_record.gather("tc_resnet", params.load()).record
    assert record["dvc_lock"] == "differs from the files: models/tc_resnet"
    assert record["dvc.models/tc_resnet"] != dvc_lock.output_hashes()["models/tc_resnet"]
    dvc(run, "commit", "-q", "--force")
    assert record["dvc.models/tc_resnet"] == dvc_lock.output_hashes()["models/tc_resnet"]


def test_of_a_stage_that_is_gone_dvc_is_not_asked_about_all_others(checkout):
    with objects() as known:
        assert known.changes(["evaluate"]) == {"evaluate": ["dvc.yaml"]}
        assert known.changes(["evaluate", "ingest"]) == {"evaluate": ["dvc.yaml"], "ingest": ["data/raw"]}


@pytest.mark.parametrize(
    "text", ["3", "[a]", "stages: 3", "stages:", "stages: {train: 3}", "stages: {train: {outs: [a]}}", "a: b: c"]
)
def test_a_lock_that_dvc_did_not_write_is_refused(repository, text):
    write("dvc.lock", text)
    with pytest.raises(UserError, match=r"^dvc\.lock is not YAML"):
        dvc_lock.output_hashes()


def test_features_at_an_address_are_named_by_it(checkout):
    text = Path("params.yaml").read_text().replace("features: data/features", "features: s3://bucket/features")
    write("params.yaml", text)
    record = version_record.gather("tc_resnet", params.load()).record
    assert record["features_at"] == "s3://bucket/features"
    assert "dvc.data/features" not in record


def recorded_paths() -> list[str]:
    return list(dvc_lock.output_hashes())


def md5sum(path: str) -> str:
    return subprocess.run(["md5sum", path], check=True, capture_output=True, text=True).stdout.split()[0]


def sha256sum(path: str) -> str:
    return subprocess.run(["sha256sum", path], check=True, capture_output=True, text=True).stdout.split()[0]
