"""The commands in README and docs, run as they stand there, in a copy of a registered project.

A block with a mark (`<!-- not run: … -->`, `<!-- tested by: … -->`) is not run here; tests/unit/docs checks the marks.
"""

import itertools
import os
import re
import subprocess
from pathlib import Path

import pytest
from conftest import BIN, ROOT, copied
from support import markdown

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = set("|<>&$;\"'")
"""A line with one of these needs a shell."""


def commands(page: Path) -> list[str]:
    """The commands of a page that are neither marked nor of another language, in their order."""
    runnable = [block for block in markdown.blocks(page) if block.language == "sh" and not block.mark]
    return [command for block in runnable for command in block.commands]


@pytest.fixture
def project(registered, tmp_path) -> Path:
    """A project as a reader has it after `make run`."""
    return copied(registered, tmp_path / "project")


def in_a_shell(project: Path, command: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(
        ["sh", "-ec", command], cwd=project, env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.name)
def test_the_commands_of_a_page_work_in_the_order_in_which_they_stand_there(page, project, earmark):
    for command in commands(page):
        program, *arguments = command.split()
        if program == "earmark" and SHELL.isdisjoint(command):
            done = earmark(project, *arguments)
        else:
            done = in_a_shell(project, command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


def test_readme_shows_what_predict_prints(project, earmark):
    blocks = markdown.blocks(ROOT / "README.md")
    (example,) = [after.body for before, after in itertools.pairwise(blocks) if "predict" in before.body]
    cat, predict = commands(ROOT / "README.md")[:2]
    assert in_a_shell(project, cat).returncode == 0
    printed = earmark(project, *predict.split()[1:]).stdout
    for text in (example, printed):
        assert re.match(r"clip\.wav: \w+ \d+\.\d\u00a0%", text), text
