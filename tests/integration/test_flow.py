"""The flow `retrain` on a small project, whose command `earmark` is a stand-in (flow_project)."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from conftest import ROOT, candidates
from support.flow_project import METRICS, RETRAIN, SECONDS, STAGES, VALIDATION, VERDICT, Project, new_project
from support.prefect_server import PrefectServer, answers, run_weekly, running, serving, wait_until

from earmark.reporting import markdown
from earmark.reporting.leaderboard import leaderboard

AT_ONCE = (
    "-c",
    "import sys; from flows import retrain, tasks;"
    "tasks.reproduce = tasks.reproduce.with_options(retry_delay_seconds=0); sys.exit(retrain.main())",
)
"""The flow without the time before it tries again."""


def for_a_team(part: str = "all") -> tuple[str, str]:
    """The flow as a deployment with a repository and a branch runs it."""
    flow = f"retrain('https://me:secret@example.org/team.git', 'main', {part!r}, return_state=True)"
    return "-c", f"import sys; from flows.retrain import retrain; sys.exit(not {flow}.is_completed())"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    with serving(tmp_path_factory.mktemp("prefect")) as server:
        yield server


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, server: PrefectServer) -> tuple[Project, CompletedProcess]:
    """A new project after its first run, and what that run said."""
    project = new_project(tmp_path_factory.mktemp("project"), server)
    return project, project.retrain()


@pytest.fixture
def project(first, tmp_path: Path) -> Project:
    """A copy of the project as its first run left it."""
    shutil.copytree(first[0].root, tmp_path / "project")
    return Project(tmp_path / "project", first[0].server)


def test_first_run_runs_every_stage_once_and_shows_what_register_says(first):
    project, ended = first
    assert ended.returncode == 0, ended.stderr
    assert set(project.calls) == {*STAGES, "register"}
    assert len(project.calls) == 7
    assert project.calls.index("ingest") == 0
    assert project.calls[-2:] == ["evaluate", "register"]
    assert project.states(7) == dict.fromkeys([*STAGES, "register"], "Completed")
    assert "registered tc_resnet" in ended.stdout
    assert "train@seed_cnn at work" in ended.stderr
    assert "Running stage" not in ended.stderr
    assert set(project.artifacts) == {"validation", "leaderboard"}
    leaderboard = project.artifacts["leaderboard"]
    assert leaderboard.startswith("`registered tc_resnet`\n\nFigures are of the test split.\n\n| candidate |")
    assert not set(leaderboard) & set("─│┃━╭╮╰╯")
    assert "```" not in leaderboard
    assert "70 clips accepted" in project.artifacts["validation"]


def test_news_reaches_every_stage_and_a_verdict_is_shown_by_each_run_that_it_stands_for(project: Project):
    (project.root / "source.txt").write_text("three recordings")
    (project.root / "verdict.txt").write_text(json.dumps(VERDICT))
    ended = project.retrain()
    assert ended.returncode == 0, ended.stderr
    assert project.calls[0] == "ingest"
    assert set(project.calls) >= {"validate", "extract"}
    assert "changed: ingest" in ended.stdout
    assert project.artifacts["verdict"] == markdown.verdict(VERDICT)
    # The next one may come after a kill, with nothing left to do; here its ingest fails once, and is tried again.
    again = project.retrain(({"stage": "ingest", "exit_code": 1, "unless": "faulty"},), AT_ONCE)
    assert again.returncode == 0, again.stderr
    assert project.calls == ["ingest", "ingest", "register"]
    assert project.states(7) == dict.fromkeys(STAGES[1:], "Cached") | {"ingest": "Completed", "register": "Completed"}
    assert "nothing changed: all 6 stages are up to date" in again.stdout
    assert set(project.artifacts) == {"leaderboard", "verdict"}
    assert project.artifacts["verdict"] == markdown.verdict(VERDICT)


@pytest.mark.parametrize(("stage", "exit_code"), [("ingest", 2), ("extract", 1)])
def test_failure_ends_the_run_with_what_the_stage_said(project: Project, stage: str, exit_code: int):
    project.set("features", "fft_length", 1024)
    ended = project.retrain(({"stage": stage, "exit_code": exit_code},))
    assert_failed(project, ended, stage, exit_code)


def test_a_parameter_of_one_candidate_trains_that_one_only_and_register_may_fail(project: Project):
    changed = candidates("seed_cnn") | candidates("tc_resnet", batch_size=128)
    project.set("train", "candidates", changed)
    ended = project.retrain(({"stage": "register", "exit_code": 2},))
    assert_failed(project, ended, "register", 2)
    assert project.calls == ["ingest", "train@tc_resnet", "evaluate", "register"]
    ended_well = dict.fromkeys(["ingest", "train@tc_resnet", "evaluate"], "Completed")
    cached = dict.fromkeys(["validate", "extract", "train@seed_cnn"], "Cached")
    assert project.states(7) == ended_well | cached | {"register": "Failed"}


def assert_failed(project: Project, ended: CompletedProcess, stage: str, exit_code: int) -> None:
    assert ended.returncode == exit_code
    assert ended.stderr.endswith(f"\nretrain failed: {stage}: earmark: the rates are wrong:\n7 Hz\n")
    assert "Traceback" not in ended.stderr
    assert "NoneType" not in ended.stderr
    assert project.calls[-1] == stage
    assert project.calls.count(stage) == 1
    assert project.server.flow_run(project.run_id)["state_name"] == "Failed"


def test_a_refusal_by_validate_is_shown_with_its_rules(project: Project):
    refused = VALIDATION | {"sentence": "data/raw is refused"}
    (project.root / "validation.txt").write_text(json.dumps(refused))
    (project.root / "source.txt").write_text("three recordings")
    ended = project.retrain(({"stage": "validate", "exit_code": 2},))
    assert_failed(project, ended, "validate", 2)
    assert project.artifacts == {"validation": markdown.validation(refused)}


def test_wrong_parameter_is_refused_before_any_stage(project: Project):
    project.set("dataset", "sample_rate_hz", 7)
    ended = project.retrain()
    assert ended.returncode == 2
    assert "dataset.sample_rate_hz is 7" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr
    assert not (project.root / "calls.txt").exists()


def test_damaged_graph_is_reported_in_the_words_of_dvc(project: Project):
    (project.root / "dvc.yaml").write_text("stages: 7")
    ended = project.retrain()
    assert ended.returncode == 2
    assert "dvc.yaml" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


def test_a_result_that_dvc_still_has_is_shown_as_cached_and_a_killed_stage_as_a_fault(project: Project):
    params_file = project.root / "params.yaml"
    before = params_file.read_text()
    project.set("features", "fft_length", 1024)
    assert project.retrain().returncode == 0
    params_file.write_text(before)
    ended = project.retrain()
    assert ended.returncode == 0, ended.stderr
    assert project.calls == ["ingest", "register"]
    assert "DVC had the result" in ended.stderr
    assert project.states(7)["extract"] == "Cached"
    project.set("features", "fft_length", 2048)
    killed = project.retrain(({"stage": "extract", "exit_code": -signal.SIGKILL},))
    assert killed.returncode == 1
    # A shell that waits for its command writes "Killed", one that becomes the command writes nothing.
    assert "extract: killed by SIGKILL" in killed.stderr.splitlines()[-1]


def test_with_a_branch_a_run_begins_with_what_others_did_and_publishes_before_it_registers(project: Project):
    (project.root / "source.txt").write_text("recordings for the team")
    ended = project.retrain(command=for_a_team())
    assert ended.returncode == 0, ended.stderr
    assert project.calls[:2] == ["fetch", "ingest"]
    assert project.calls[-3:] == ["publish", "register", "publish"]
    failed = project.retrain(({"stage": "publish", "exit_code": 2},), for_a_team())
    assert failed.returncode == 1
    assert "publish: earmark: the rates are wrong" in failed.stderr
    assert project.calls[-1] == "publish"
    assert "register" not in project.calls
    refused = project.retrain(({"stage": "fetch", "exit_code": 2},), for_a_team())
    assert "fetch: earmark: the rates are wrong" in refused.stderr
    assert project.calls == ["fetch"]


def test_each_part_runs_its_stages_and_training_wants_the_data_of_these_settings(project: Project):
    project.set("features", "fft_length", 1024)
    (project.root / "source.txt").write_text("recordings for two machines")
    for part, calls in {
        "data": ["fetch", "ingest", "validate", "extract", "publish"],
        "training": ["fetch", "train@seed_cnn", "train@tc_resnet", "evaluate", "publish", "register", "publish"],
    }.items():
        ended = project.retrain(command=for_a_team(part))
        assert ended.returncode == 0, ended.stderr
        assert sorted(project.calls) == sorted(calls)
    again = project.retrain(command=for_a_team("training"))
    assert project.calls == ["fetch", "publish", "register", "publish"]
    assert "nothing changed: all 3 stages are up to date" in again.stderr
    project.set("features", "fft_length", 2048)
    refused = project.retrain(command=for_a_team("training"))
    assert refused.returncode == 1
    assert "extract: not up to date; run the part 'data' first" in refused.stderr
    assert project.calls == ["fetch"]


def test_a_run_waits_for_another_one_of_its_repository_and_says_so_once(project: Project):
    (project.root / "calls.txt").unlink()
    limit, log = "retrain https-example.org-team", project.root / "run.log"
    project.server.post("/v2/concurrency_limits/", {"name": limit, "limit": 1}, known=409)
    project.server.post("/v2/concurrency_limits/increment", {"names": [limit], "slots": 1})
    command = [sys.executable, *for_a_team()]
    with running(command, log, cwd=project.root, env=project.environment()) as process:
        wait_until(lambda: "waits: another run of this repository is at work" in log.read_text(), SECONDS, "it waits")
        assert not (project.root / "calls.txt").exists()
        project.server.post("/v2/concurrency_limits/decrement", {"names": [limit], "slots": 1})
        assert process.wait(SECONDS) == 0, log.read_text()
    assert project.calls[0] == "fetch"
    assert log.read_text().count("waits: ") == 1


HOLD = """
from pathlib import Path
from earmark.io.run_lock import only_run
with only_run(Path("logs/run.json"), "earmark forget"):
    print("holds", flush=True)
    input()
"""


def test_a_run_beside_another_command_of_this_checkout_is_one_sentence_or_waits(project: Project):
    (project.root / "calls.txt").unlink()
    log = project.root / "run.log"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], cwd=project.root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "holds\n"
        refused = project.retrain(command=AT_ONCE)
        assert refused.returncode == 2
        assert f"retrain failed: 'earmark forget' (process {holder.pid}) has been running" in refused.stderr
        assert not (project.root / "calls.txt").exists()
        waiting = [sys.executable, "-m", "flows.retrain", "--wait"]
        with running(waiting, log, cwd=project.root, env=project.environment()) as process:
            wait_until(lambda: "waiting: 'earmark forget'" in log.read_text(), SECONDS, "it waits")
            holder.stdin.close()
            assert process.wait(SECONDS) == 0, log.read_text()
    assert project.calls[0] == "ingest"


def test_what_dvc_itself_refuses_ends_the_run_in_its_words(project: Project):
    graph = project.root / "dvc.yaml"
    graph.write_text(graph.read_text().replace("always_changed: true", "deps: [nowhere]"))
    ended = project.retrain(command=AT_ONCE)
    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("retrain failed: ingest: dvc: ")
    assert "nowhere" in last
    assert "Traceback" not in ended.stderr


def test_the_weekly_deployment_runs_through_a_worker(project: Project, tmp_path: Path):
    shutil.copy(ROOT / "prefect.yaml", project.root)
    (project.root / "source.txt").write_text("three recordings")
    (project.root / "calls.txt").unlink()
    run = run_weekly(project.server, project.root, project.environment(), tmp_path / "worker.log")
    assert run["state_name"] == "Completed", (tmp_path / "worker.log").read_text()
    assert project.run_id == run["id"]
    assert project.calls[0] == "ingest"
    assert project.calls[-1] == "register"
    assert "extract" in project.calls
    assert set(project.states(7)) == {*STAGES, "register"}


ENDINGS = [
    (signal.SIGINT, True),
    (signal.SIGTERM, False),
    (signal.SIGHUP, False),
    pytest.param(signal.SIGTERM, True, marks=pytest.mark.slow),
    pytest.param(signal.SIGHUP, True, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("number", "temporary"), ENDINGS)
def test_what_ends_a_terminal_s_processes_ends_all_of_the_flow_and_is_one_sentence(project: Project, number, temporary):
    command = [sys.executable, "-m", "flows.retrain"]
    environment = project.environment(({"stage": "ingest", "exit_code": None},))
    if temporary:  # a server of the flow's own, which the terminal interrupts too
        environment.pop("PREFECT_API_URL")
    apart = {"cwd": project.root, "env": environment, "start_new_session": True}
    with running(command, project.root / "run.log", **apart) as process:
        wait_until((project.root / "faulty").exists, SECONDS, "ingest hangs")
        os.killpg(process.pid, number)  # as a terminal does it
        assert process.wait(SECONDS) == 130
    output = (project.root / "run.log").read_text()
    assert output.splitlines()[-1] == "retrain was interrupted; the next run continues from here"
    assert "Traceback" not in output
    if temporary:
        address = re.search(r"temporary server on (http://127.0.0.1:\d+)", output)[1]
        wait_until(lambda: not answers(f"{address}/api/health"), 10, "Prefect's temporary server has ended")
    stage = int((project.root / "faulty").read_text())
    wait_until(lambda: not _is_alive(stage), 10, "the stage's own process has ended")


@pytest.mark.parametrize("name", ["ingest", "fetch"])
def test_a_killed_flow_leaves_no_command_at_work(project: Project, name: str):
    environment = project.environment(({"stage": name, "exit_code": None},))
    command = [sys.executable, *for_a_team()]
    with running(command, project.root / "run.log", cwd=project.root, env=environment) as process:
        wait_until((project.root / "faulty").exists, SECONDS, "the command hangs")
        process.kill()
    hanging = int((project.root / "faulty").read_text())
    wait_until(lambda: not _is_alive(hanging), 10, "its own process has ended")
    (project.root / "faulty").unlink()


def _is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def cells(line: str) -> list[str]:
    return [cell.strip().replace("\u00a0", " ") for cell in line.strip("|").split("|")]


def test_the_leaderboard_is_of_the_test_split_where_there_is_one():
    entry = METRICS["candidates"]["tc_resnet"]
    sentence, _, headings, _, row = markdown.leaderboard(leaderboard({"tc_resnet": entry}, "tc_resnet")).splitlines()
    assert sentence == "Figures are of the test split."
    by_heading = dict(zip(cells(headings), cells(row), strict=True))
    assert by_heading == {
        "candidate": "**tc_resnet**",
        "accuracy": "91.2 % (90.0–92.0 %)",
        "macro F1": "85.0 % (80.0–90.0 %)",
        "validation": "50.0 %",
        "parameters": "66,000 (3,200,000)",
        "size": "312 kB",
        "ms/clip": "1.25 (2.50)",
        "training": "61.6 s (540)",
    }
    without_test = {key: value for key, value in entry.items() if key != "test"}
    assert leaderboard({"tc_resnet": without_test}, "tc_resnet").split == "validation"


def test_rules_of_validation_are_one_row_each_whatever_clips_are_called():
    heading, _, *table = markdown.validation(VALIDATION).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]
    assert heading == "70 clips accepted, 2 quarantined"
    assert rows == [
        ["clips", "decodable", "**quarantined**", "", "`no/a/b'c.wav`, `'no/\\nd.wav'`"],
        ["data set", "drift", "passed", "0.01", ""],
    ]


def test_checks_of_the_gate_are_one_row_each_whatever_labels_are_called():
    heading, _, *table = markdown.verdict(VERDICT).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]
    assert heading == f"`{VERDICT['sentence'].replace('|', '/')}`"
    assert rows == [
        ["accuracy", "passed", "`91.23\u00a0%`", "`at least 50.00\u00a0%`"],
        ["accuracy at 10 dB", "not measured", "`no noise`", "`at least one`"],
        ["largest drop in recall", "**failed**", "`20.00 points, of 'no/'yes'`", "`none`"],
    ]


def started(project: Project, **environment: str) -> CompletedProcess:
    return subprocess.run(
        [sys.executable, *RETRAIN],
        cwd=project.root,
        env=project.environment() | environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


def test_a_server_that_does_not_answer_is_one_sentence_without_its_password(project: Project):
    ended = started(project, PREFECT_API_URL="http://alice:s3cr3t@127.0.0.1:9/api")
    assert ended.returncode == 2
    (sentence,) = ended.stderr.splitlines()
    assert sentence.startswith("earmark: Prefect at http://127.0.0.1:9/api does not answer: ")
    assert sentence.endswith("; expected a running server, or an unset PREFECT_API_URL for a temporary one")


def test_no_proxy_stands_between_a_run_and_a_server_on_this_machine(project: Project):
    proxy = "http://127.0.0.1:9"
    ended = started(project, http_proxy=proxy, https_proxy=proxy, NO_PROXY="", no_proxy="")
    assert ended.returncode == 0, ended.stderr
    assert project.server.url.removesuffix("/api") in ended.stdout  # the server that has this run, not one to start
