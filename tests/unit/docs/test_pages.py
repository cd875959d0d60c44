"""The pages for people: size, links, marks of commands, parameters and commands that exist."""

import re
import subprocess
import tomllib
from collections import defaultdict
from pathlib import Path

import click
import pytest
from conftest import ROOT
from support import markdown

from earmark import params
from earmark.cli import main
from earmark.params import yaml
from earmark.reporting.leaderboard import HEADINGS

PAGES = [
    page
    for folder, pattern in ((".", "*.md"), ("docs", "*.md"), (".github", "**/*.md"), ("infra", "*.md"))
    for page in sorted((ROOT / folder).glob(pattern))
]
REASONS = ("network", "GPU", "containers", "a person")
PROGRAMS = ("earmark", "dvc", "make", "mlflow", "prefect", "git", "dask")
MADE = ("gru.py", "octave.py", "beeps.py", "dvc.lock")
"""Files that a recipe or a run makes."""
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
FILES = defaultdict(list)
for path in subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split():
    FILES[Path(path).name].append(Path("/", path))


def name(page) -> str:
    return page.relative_to(ROOT).as_posix()


pages = pytest.mark.parametrize("page", PAGES, ids=name)


def test_readme_is_for_five_minutes():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert max(map(len, lines)) < 120


def test_the_picture_in_readme_is_small():
    assert ("docs/report.png", "") in markdown.links(ROOT / "README.md")
    assert (ROOT / "docs/report.png").stat().st_size <= 200_000


@pages
def test_lines_outside_tables_are_under_120_characters(page):
    long = [line for line in page.read_text(encoding="utf-8").splitlines() if len(line) >= 120 and line[:1] != "|"]
    assert long == []


@pages
def test_links_lead_somewhere(page):
    for path, anchor in markdown.links(page):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        assert not anchor or anchor in markdown.anchors(target), f"{path}#{anchor}"


@pages
def test_commands_that_no_test_runs_say_why(page):
    for block in markdown.blocks(page):
        if block.language == "sh" and block.mark:
            kind, _, value = block.mark.partition(": ")
            assert kind in ("not run", "tested by"), block.mark
            assert value in REASONS if kind == "not run" else (ROOT / value).is_file(), block.mark


@pages
def test_a_test_that_a_page_names_runs_its_commands(page):
    support = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests/support").glob("*.py"))
    for block in markdown.blocks(page):
        if block.mark.startswith("tested by: "):
            text = support + (ROOT / block.mark.removeprefix("tested by: ")).read_text(encoding="utf-8")
            missing = {word for command in block.commands for word in subcommands(command) if f'"{word}"' not in text}
            assert not missing, f"{block.mark}: {missing}"


def subcommands(command: str) -> list[str]:
    """The subcommands of a line: `registry` and `rollback` of `earmark registry rollback --why …`."""
    program, *rest = command.split()
    if program.rpartition("/")[2] not in PROGRAMS or program == "make":
        return []
    named = re.match(r"(?:[a-z]+ )*", " ".join(rest) + " ")
    return named[0].split() if program != "earmark" else subcommand(rest)[1]


def subcommand(arguments: list[str]) -> tuple[click.Command, list[str]]:
    """The command of earmark that the arguments name, and its words."""
    command, words = main, []
    for argument in arguments:
        if not isinstance(command, click.Group) or argument.startswith("-"):
            break
        assert argument in command.commands, f"earmark has no command {' '.join([*words, argument])!r}"
        command = command.commands[argument]
        words.append(argument)
    return command, words


@pages
def test_no_command_hides_in_a_block_of_another_kind(page):
    for block in markdown.blocks(page):
        assert block.language in ("sh", "yaml", "text", "python"), block.body
        if block.language == "text":
            assert not [
                line for line in block.body.splitlines() if re.match(rf"({'|'.join(PROGRAMS)}) [a-z-]+ ?", line)
            ]
    indented = re.findall(rf"\n\n    (?:{'|'.join(PROGRAMS)}) .*", markdown.prose(page))
    assert indented == []


@pages
def test_commands_of_earmark_and_make_exist(page):
    lines = [command for block in markdown.blocks(page) if block.language == "sh" for command in block.commands]
    for line in (*lines, *markdown.inline_code(page)):
        for part in re.split(r" \| | && ", line):
            program, *arguments = part.split(" ")
            if program == "earmark" and arguments and re.fullmatch(r"[a-z-]+", arguments[0]):
                command, _ = subcommand(arguments)
                options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
                assert {word for word in arguments if word.startswith("--")} <= options, line
            if program == "make" and arguments and "=" not in arguments[0]:
                assert arguments[0] in TARGETS, line


@pages
def test_parameters_in_examples_are_accepted(page):
    shipped = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for block in markdown.blocks(page):
        if block.language == "yaml":
            params.Params.model_validate(merged(shipped, yaml.load(block.body)))


def merged(values: dict, changes: dict) -> dict:
    """`values` with `changes` at any depth, as somebody who follows a page has them."""
    both = {key: merged(values[key], own) for key, own in changes.items() if isinstance(values.get(key), dict)}
    return values | changes | both


def test_readme_shows_the_leaderboard_as_it_is_printed():
    (table,) = [block.body for block in markdown.blocks(ROOT / "README.md") if "candidates on the" in block.body]
    assert {word for heading in HEADINGS for word in heading.split()} <= set(table.split())


@pages
def test_files_of_the_code_exist(page):
    for code in markdown.inline_code(page):
        if re.fullmatch(r"[a-z_/0-9]+\.(py|yaml|lock|toml)", code) and "<" not in code:
            name = code.rpartition("/")[2]
            assert any(path.as_posix().endswith(f"/{code}") for path in FILES[name]) or name in MADE, code


@pages
def test_parameters_in_the_text_exist(page):
    shipped = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for code in markdown.inline_code(page):
        section, *keys = code.split(".")
        if section in shipped and keys and re.fullmatch(r"[a-z_.]+", code) and keys[0] not in ("py", "yaml"):
            value = shipped[section]
            for key in keys:
                assert key in value, code
                value = value[key]


def test_the_workflow_calls_make_test_and_nothing_else():
    workflow = yaml.load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))
    (job,) = workflow["jobs"].values()
    assert [step.get("run") or step["uses"].partition("@")[0] for step in job["steps"]] == [
        "actions/checkout",
        "make test",
    ]


def test_the_hook_calls_make_check():
    hooks = yaml.load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [hook["entry"] for repository in hooks["repos"] for hook in repository["hooks"]] == ["make check"]


def test_the_citation_has_the_version_and_the_license_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
