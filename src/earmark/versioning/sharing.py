"""Shares results between clones: code, dvc.lock and metrics through git's remote, data through DVC's.

A clone without one of the remotes leaves that part out, and says so.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from earmark.addresses import without_passwords
from earmark.errors import NetworkError, UserError
from earmark.paths import DVC_LOCK, METRICS
from earmark.versioning.dvc import one_line, repository
from earmark.versioning.dvc_lock import output_hashes
from earmark.versioning.git import git, run_git

RESULTS = (DVC_LOCK, METRICS)
"""What git tracks of a run's results. The rest is DVC's, by the hashes in dvc.lock."""
REMOTE = "origin"
AUTHOR = ("-c", "user.name=earmark", "-c", "user.email=earmark@localhost")
"""Who commits where git knows nobody."""


@dataclass(frozen=True)
class Update:
    """What `bring_in` changed: the number of commits, and of objects from the DVC remote."""

    commits: int
    objects: int


def bring_in(repository_address: str, branch: str) -> Update:
    """Brings in what others published on `branch`: commits first, then the data that they name.

    Results in the working tree that were never published give way if others published newer ones; DVC still has them
    in its cache.

    Raises:
        UserError: this is a clone of another repository, or on another branch; files have changed, or commits were
            never published; git or DVC fails.
    """
    if not branch:
        raise UserError("git: no branch is checked out; expected the branch that results are published on")
    _require_clone(repository_address, branch)
    _require_clean()
    before = output_hashes()
    run_git("fetch", "--quiet", "--tags", REMOTE, branch)
    behind, ahead = _count("HEAD..FETCH_HEAD"), _count("FETCH_HEAD..HEAD")
    if ahead and behind:
        raise UserError(
            f"git: {ahead} commits of this clone were never published, and {branch} has {behind} others;"
            " run 'earmark publish'"
        )
    if behind:
        _give_way(_lines("diff", "--name-only", "HEAD", "FETCH_HEAD", "--", *_results()))
        run_git("merge", "--quiet", "--ff-only", "FETCH_HEAD")
    return Update(behind, pull_data(before))


def _give_way(published: Sequence[str]) -> None:
    """Removes this clone's unpublished results where others have published newer ones."""
    tracked = _lines("ls-files", "--", *published) if published else []
    if tracked:
        run_git("checkout", "--quiet", "HEAD", "--", *tracked)
    for path in set(published) - set(tracked):
        Path(path).unlink(missing_ok=True)


def pull_data(before: Mapping[str, str]) -> int:
    """Downloads what dvc.lock names and this clone lacks; returns the number of objects. 0 without a DVC remote.

    Only outputs that are missing, or whose hash is not that of `before`, are replaced: what a refused or killed stage
    left of the others stays for its next run.

    Raises:
        NetworkError: the remote does not answer.
        UserError: it lacks what dvc.lock names, or DVC refuses.
    """
    names = [path for path, md5 in output_hashes().items() if before.get(path) != md5 or not Path(path).exists()]
    names = [path for path in names if Path(path) not in RESULTS]
    if not names:
        return 0
    with repository() as repo, _remote_errors():
        if not repo.config["core"].get("remote"):
            return 0
        return int(repo.pull(targets=names, force=True)["stats"]["fetched"])


def push_data() -> int | None:
    """Uploads what dvc.lock names to the default DVC remote; returns the number of objects, None without a remote.

    Raises:
        NetworkError: the remote does not answer.
        UserError: DVC refuses.
    """
    with repository() as repo, _remote_errors():
        if not repo.config["core"].get("remote"):
            return None
        return int(repo.push())


def commit_results() -> bool:
    """Commits dvc.lock, the metrics and DVC's .gitignore files, and nothing else; returns whether they had changed."""
    existing = [path for path in _results() if Path(path).exists()]
    if not existing or not _lines("status", "--porcelain", "--untracked-files=all", "--", *existing):
        return False
    run_git("add", "--force", "--", *existing)
    run_git(*_author(), "commit", "--quiet", "--message", "Record the results of a run", "--", *existing)
    return True


def _results() -> list[str]:
    """RESULTS, and the lists of ignored files that DVC keeps beside its outputs."""
    beside = {Path(path).parent / ".gitignore" for path in output_hashes()}
    return sorted(str(path) for path in {*RESULTS, *beside})


def push_commits() -> int | None:
    """Pushes this branch; returns the number of commits, None without a remote.

    If others have pushed meanwhile, this clone's commits are put on top of theirs.

    Raises:
        UserError: the remote does not answer or refuses, or others have published results too.
    """
    branch = current_branch()
    if not remote_address():
        return None
    if not branch:
        raise UserError("git: no branch is checked out; expected the branch that results are published on")
    run_git("fetch", "--quiet", REMOTE)
    upstream = f"refs/remotes/{REMOTE}/{branch}"
    exists = git("rev-parse", "--verify", "--quiet", upstream) is not None
    if exists and _count(f"HEAD..{upstream}"):
        _require_no_overlap(upstream)
        try:
            run_git(*_author(), "rebase", "--quiet", "--autostash", upstream)
        except UserError:
            git("rebase", "--abort")
            raise UserError(
                f"git: others have published results on {branch} since this run began;"
                f" 'git reset --keep {REMOTE}/{branch}' takes theirs, and the next run goes on from there"
            ) from None
    count = _count(f"{upstream}..HEAD") if exists else _count("HEAD")
    if count:
        run_git("push", "--quiet", REMOTE, f"HEAD:refs/heads/{branch}")
    return count


def _require_no_overlap(upstream: str) -> None:
    """Refuses to move uncommitted changes onto commits that change the same files."""
    theirs = {*_lines("diff", "--name-only", f"HEAD...{upstream}")}
    both = [path for path in _lines("diff", "--name-only", "HEAD") if path in theirs]
    if both:
        names = ", ".join(both[:3])
        raise UserError(f"git: {names} changed here and in new commits of others; commit or discard the changes here")


def push_tags(commits: Mapping[str, str]) -> list[str]:
    """Tags each commit, by the tag's name, unless the tag is there or this branch lacks the commit.

    Pushes all tags of `commits` that are there then; returns the new names. Two clones make the same tag, since a tag
    without a message is nothing but its commit.

    Raises:
        UserError: the remote does not answer or refuses.
    """
    new = [name for name, commit in commits.items() if not _is_tag(name) and _is_published(commit)]
    for name in new:
        run_git("tag", name, commits[name])
    there = [name for name in commits if _is_tag(name)]
    if there and remote_address():
        run_git("push", "--quiet", REMOTE, *(f"refs/tags/{name}" for name in there))
    return new


def _is_tag(name: str) -> bool:
    return git("rev-parse", "--verify", "--quiet", f"refs/tags/{name}") is not None


def _is_published(commit: str) -> bool:
    """Whether the commit is HEAD or one before it."""
    return git("merge-base", "--is-ancestor", commit, "HEAD") is not None


@contextmanager
def _remote_errors() -> Iterator[None]:
    from dvc.exceptions import CheckoutError, DvcException, FileTransferError

    try:
        yield
    except CheckoutError as error:
        hint = "run 'earmark publish' in a clone that has it"
        raise UserError(
            f"dvc: the remote lacks {', '.join(error.target_infos[:3])}, which dvc.lock names; {hint}"
        ) from None
    except FileTransferError as error:
        raise NetworkError(f"dvc: {one_line(error)} from or to the remote; run the command again") from None
    except DvcException as error:
        raise UserError(f"dvc: {one_line(error)}") from None
    except UserError:
        raise
    except Exception as error:  # every kind of remote raises the exceptions of its own library
        raise NetworkError(f"dvc: the remote does not answer: {one_line(error)}") from None


def current_branch() -> str:
    """The branch that is checked out; "" if it is none."""
    return (git("symbolic-ref", "--short", "--quiet", "HEAD") or b"").decode().strip()


def _require_clone(address: str, branch: str) -> None:
    if current_branch() != branch:
        raise UserError(f"git: {current_branch() or 'no branch'} is checked out; expected {branch}")
    remote = remote_address()
    if address and without_ending(remote) != without_ending(address):
        raise UserError(
            f"git: this is a clone of {without_passwords(remote) or 'nothing'}; expected {without_passwords(address)}"
        )
    if not remote:
        raise UserError(f"git: this repository has no remote {REMOTE}; expected a clone")


def _require_clean() -> None:
    """Results may differ: those of a run that was interrupted."""
    changed = _lines("status", "--porcelain", "--untracked-files=no", "--", ".", *(f":!{path}" for path in _results()))
    if changed:
        names = ", ".join(line[3:] for line in changed[:3])
        raise UserError(f"git: {names} changed since the last commit; commit or discard the changes")


def _author() -> tuple[str, ...]:
    return () if git("config", "user.email") else AUTHOR


def remote_address() -> str:
    """The address of the repository that this is a clone of; "" for none."""
    return (git("remote", "get-url", REMOTE) or b"").decode().strip()


def without_ending(address: str) -> str:
    """The address of a repository without the "/" and ".git" at its end, which git does not need."""
    return address.removesuffix("/").removesuffix(".git")


def _count(commits: str) -> int:
    return int((git("rev-list", "--count", commits) or b"0").decode())


def _lines(*arguments: str) -> list[str]:
    return (git(*arguments) or b"").decode().splitlines()
