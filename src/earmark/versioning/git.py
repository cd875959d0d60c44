"""The code behind a result, as git has it: what its commit lacks, and a clean checkout of both elsewhere."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from earmark.errors import UserError

CODE = ("src", "flows")
"""Folders in which a file counts as code before git knows it."""
UNCODED = (":!data", ":!dvc.lock", ":!reports")
"""What is no code, in git's notation: recordings and results."""
PATCH_FORMAT = ("--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/")


def git_state() -> dict[str, str]:
    """`git_commit` and `git_dirty` ("true" where tracked files differ from it, or code is new); "unknown" outside a git
    repository."""
    commit = git("rev-parse", "HEAD")
    if commit is None:
        return {"git_commit": "unknown", "git_dirty": "unknown"}
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", *UNCODED)
    changed = changed or git("ls-files", "--others", "--exclude-standard", "--", *CODE)
    return {"git_commit": commit.decode().strip(), "git_dirty": "true" if changed else "false"}


def uncommitted_patch() -> bytes:
    """A patch of what the files here have beyond HEAD: tracked ones, and new ones of CODE; without
    recordings and results. Empty where there is nothing, or no git repository."""
    index = git("rev-parse", "--git-path", "index")
    if index is None:
        return b""
    with tempfile.TemporaryDirectory(prefix="earmark-") as folder:
        # In a copy of git's index new files can be noted without a trace in the real one.
        copy = Path(folder) / "index"
        if Path(index.decode().strip()).is_file():
            shutil.copyfile(index.decode().strip(), copy)
        noted = {"GIT_INDEX_FILE": str(copy)}
        git("add", "--intent-to-add", "--", *filter(os.path.isdir, CODE), **noted)
        return git("diff", *PATCH_FORMAT, "HEAD", "--", ".", *UNCODED, **noted) or b""


def has_commit(commit: str) -> bool:
    """Whether this repository has the commit of this full hash."""
    return git("cat-file", "-e", f"{commit}^{{commit}}") is not None


def check_out(commit: str, patch: bytes, folder: Path) -> None:
    """A clone of this repository in the new folder `folder`, at `commit`, with `patch` applied; nothing here changes.

    UserError where there is no such commit, or the patch does not apply to it.
    """
    if not has_commit(commit):
        raise UserError(f"this repository has no commit {commit}; 'git fetch' may bring it")
    # What is not reachable from a branch any more is still among the objects, which a shared clone reads in place.
    _must("clone", "--quiet", "--shared", "--no-checkout", ".", str(folder))
    _must("-C", str(folder), "-c", "core.hooksPath=/dev/null", "checkout", "--quiet", "--detach", commit)
    if patch:
        _must("-C", str(folder), "apply", "--whitespace=nowarn", "-", standard_input=patch)


def _must(*arguments: str, standard_input: bytes = b"") -> None:
    # A git hook that runs this says by GIT_DIR where git is to work.
    elsewhere = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(["git", *arguments], input=standard_input, capture_output=True, env=elsewhere)
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())
        raise UserError(f"git {' '.join(arguments)} failed: {said}")


def git(*arguments: str, **environment: str) -> bytes | None:
    """What git says, with more in its environment; None where it cannot."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, check=True, env=os.environ | environment)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout
