"""The code behind a result: git's commit, a patch of uncommitted changes, and a clean checkout of both."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from earmark.addresses import without_passwords
from earmark.errors import NetworkError, UserError
from earmark.paths import DATA, DVC_LOCK, DVC_SETTINGS, REPORTS

CODE = ("src", "flows")
"""Folders whose untracked files count as code."""
NOT_CODE = tuple(f":!{path}" for path in (DATA, DVC_LOCK, REPORTS, DVC_SETTINGS))
"""Pathspecs that exclude recordings, results, and DVC's settings, which may hold keys of a remote."""
OTHER_REPOSITORY = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_COMMON_DIR",
    "GIT_PREFIX",
)
UNREACHABLE = re.compile(
    r"Could not resolve host|Failed to connect|Couldn't connect|Connection (timed out|refused|reset)"
    r"|Network is unreachable|unexpected disconnect|early EOF|returned error: 5\d\d|Operation timed out"
)
"""What git, curl and ssh say of a remote that cannot be reached; git's exit code is the same for every failure."""
TIMEOUT_SECONDS = 300
"""How long a remote may take. Commits hold code and metrics, no data: after that, it hangs."""
USING_NETWORK = ("fetch", "push")
PATCH_FORMAT = ("--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/")


def git_state() -> dict[str, str]:
    """Returns `git_commit` and `git_dirty`, which is "true" if tracked files have changed or code is untracked.

    Both are "unknown" outside a git repository.
    """
    commit = git("rev-parse", "HEAD")
    if commit is None:
        return {"git_commit": "unknown", "git_dirty": "unknown"}
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", *NOT_CODE)
    changed = changed or git("ls-files", "--others", "--exclude-standard", "--", *CODE)
    return {"git_commit": commit.decode().strip(), "git_dirty": "true" if changed else "false"}


def uncommitted_patch() -> bytes:
    """Returns a patch with the uncommitted changes to tracked files, and the untracked files of CODE.

    Recordings, results and DVC's settings are left out. Empty if there are no changes, or no git repository.
    """
    index = git("rev-parse", "--git-path", "index")
    if index is None:
        return b""
    with tempfile.TemporaryDirectory(prefix="earmark-") as folder:
        # New files are added to a copy of git's index, so that the real one does not change.
        copy = Path(folder) / "index"
        if Path(index.decode().strip()).is_file():
            shutil.copyfile(index.decode().strip(), copy)
        with_copy = {"GIT_INDEX_FILE": str(copy)}
        git("add", "--intent-to-add", "--", *filter(os.path.isdir, CODE), **with_copy)
        return git("diff", *PATCH_FORMAT, "HEAD", "--", ".", *NOT_CODE, **with_copy) or b""


def has_commit(commit: str) -> bool:
    """Whether this repository has the commit of this full hash."""
    return git("cat-file", "-e", f"{commit}^{{commit}}") is not None


def check_out(commit: str, patch: bytes, folder: Path) -> None:
    """Clones this repository into the new folder `folder`, checks out `commit` and applies `patch`.

    This repository does not change.

    Raises:
        UserError: there is no such commit, or the patch does not apply to it.
    """
    if not has_commit(commit):
        raise UserError(f"this repository has no commit {commit}; 'git fetch' may bring it")
    # A shared clone reads this repository's objects in place, so it also has commits that no branch reaches.
    run_git("clone", "--quiet", "--shared", "--no-checkout", ".", str(folder))
    run_git("-C", str(folder), "-c", "core.hooksPath=/dev/null", "checkout", "--quiet", "--detach", commit)
    if patch:
        run_git("-C", str(folder), "apply", "--whitespace=nowarn", "-", standard_input=patch)


def run_git(*arguments: str, standard_input: bytes = b"") -> None:
    """Runs git in this repository.

    Raises:
        NetworkError: a remote cannot be reached, or does not answer within TIMEOUT_SECONDS.
        UserError: git fails otherwise; the text is its own.
    """
    # If a git hook runs this, these variables point git to another repository.
    environment = {name: value for name, value in os.environ.items() if name not in OTHER_REPOSITORY}
    environment["LC_ALL"] = "C"  # for UNREACHABLE
    environment["GIT_TERMINAL_PROMPT"] = "0"  # a missing password is an error, not a question that waits
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(["git", *arguments], env=environment, stdin=pipe, stdout=nowhere, stderr=pipe) as process:
        try:
            timeout = TIMEOUT_SECONDS if arguments[0] in USING_NETWORK else None
            _, errors = process.communicate(standard_input, timeout)
        except subprocess.TimeoutExpired:
            _end(process)
            raise NetworkError(f"git {' '.join(arguments)} did not end within {TIMEOUT_SECONDS} s") from None
    if process.returncode:
        message = " ".join(without_passwords(errors.decode(errors="replace")).split())
        kind = NetworkError if UNREACHABLE.search(message) else UserError
        raise kind(f"git {' '.join(arguments)} failed: {message}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()  # git removes its locks then, and ends what it started
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()


def git(*arguments: str, **environment: str) -> bytes | None:
    """Runs git with additional environment variables and returns its output; None if it fails."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, check=True, env=os.environ | environment)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout
