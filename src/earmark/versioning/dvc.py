"""DVC's objects: the hash of a file or folder, and whether the cache or a remote still has its bytes."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeVar, cast

from earmark.addresses import without_passwords
from earmark.errors import UserError

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc_data.hashfile.db import HashFileDB
    from dvc_data.hashfile.obj import HashFile
    from dvc_data.hashfile.tree import Tree
    from dvc_objects.fs.base import FileSystem

CACHE = "DVC's cache"
FOLDER = ".dir"
"""The suffix of a folder's hash; the folder's object lists its files and their hashes."""
Answer = TypeVar("Answer")


@contextmanager
def translated_errors() -> Iterator[None]:
    """Translates DVC's errors.

    Raises:
        UserError: DVC refuses.
    """
    from dvc.exceptions import DvcException

    try:
        yield
    except DvcException as error:
        raise UserError(f"dvc: {one_line(error)}") from None


@contextmanager
def repository() -> Iterator["Repo"]:
    """Opens DVC's repository in the working directory.

    Raises:
        UserError: there is none.
    """
    from dvc.repo import Repo

    with translated_errors():
        repo = Repo()
    with repo:
        yield repo


@contextmanager
def objects() -> Iterator["Objects"]:
    """Opens DVC's cache and remotes for the checkout in the working directory.

    Raises:
        UserError: the working directory is no DVC repository.
    """
    with repository() as repo:
        yield Objects(repo)


@dataclass(frozen=True)
class Held:
    """Where an object was found.

    Attributes:
        place: the name for people of the first place with an intact copy; "" if there is none.
        damaged: paths of copies with other bytes, in the places before that.
    """

    place: str
    damaged: tuple[str, ...] = ()


@dataclass
class Objects:
    """DVC's cache and its remotes, the default remote first.

    Attributes:
        unreachable: place -> why it did not answer; it is not asked again.
        unreadable: hash -> why the cache's copy of that object cannot be read.
    """

    _repo: "Repo"
    unreachable: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)

    def md5(self, path: Path) -> str:
        """Returns DVC's hash of the file or folder `path` as it is now."""
        return str(self._built(path).hash_info.value)

    def files_of(self, path: Path) -> dict[str, str]:
        """Returns the files of the folder `path` as they are now: path within the folder -> hash."""
        return _files(cast("Tree", self._built(path)))

    def files(self, md5: str) -> dict[str, str] | None:
        """Returns the files of the folder with the hash `md5`: path within the folder -> hash.

        None if no place has an intact list of its files.
        """
        from dvc_data.hashfile.hash_info import HashInfo
        from dvc_data.hashfile.tree import Tree

        for _, odb, actual in self._ask(md5, _md5_at):
            if actual == _plain(md5):
                return _files(Tree.load(odb, HashInfo("md5", md5)))
        return None

    def look_up(self, md5: str) -> Held:
        """Reads the object with the hash `md5` in one place after the other until a copy is intact.

        Of a folder only the list of its files is read.
        """
        damaged: list[str] = []
        for place, odb, actual in self._ask(md5, _md5_at):
            if actual == _plain(md5):
                return Held(place, tuple(damaged))
            damaged += [odb.oid_to_path(md5)] if actual else []
        return Held("", tuple(damaged))

    def changes(self, stages: Sequence[str]) -> dict[str, list[str]]:
        """Returns the stages that have changed since they last ran: stage -> names of what differs.

        Names are of dependencies, parameters and outputs; dvc.yaml for a stage that it no longer has.
        """
        with translated_errors():
            defined = {stage.addressing for stage in self._repo.index.stages}
            targets = [stage for stage in stages if stage in defined]
            # Without targets, DVC would report on all stages.
            status = self._repo.status(targets=targets) if targets else {}
        changed = {stage: list(_changed_names(entries)) for stage, entries in status.items()}
        removed = {stage: ["dvc.yaml"] for stage in stages if stage not in defined}
        return {stage: names for stage, names in (changed | removed).items() if names}

    def restore(self, md5: str, target: Path) -> None:
        """Writes the file or folder with the hash `md5` to `target`, which does not exist yet, and verifies the bytes.

        Raises:
            UserError: no place has an intact copy.
        """
        files = self.files(md5) if md5.endswith(FOLDER) else {"": md5}
        if files is None:
            raise UserError(f"{target.name} cannot be restored: {self.missing_message(md5)}")
        for name, file_md5 in files.items():
            if not self.copied(file_md5, target / name):
                path = (Path(target.name) / name).as_posix()
                raise UserError(f"{path} cannot be restored: {self.missing_message(file_md5)}")

    def copied(self, md5: str, target: Path) -> bool:
        """Writes the file with the hash `md5` to `target` if some place has an intact copy; returns whether it has."""
        from dvc_objects.fs.generic import transfer
        from dvc_objects.fs.local import LocalFileSystem

        def copy(path: str, file_system: "FileSystem") -> bool:
            target.unlink(missing_ok=True)
            transfer(file_system, path, local, str(target), links=["reflink", "copy"])
            return _md5_at(str(target), local) == md5

        local = LocalFileSystem()  # type: ignore[no-untyped-call]  # dvc-objects leaves its constructor untyped
        target.parent.mkdir(parents=True, exist_ok=True)
        return any(is_intact for _, _, is_intact in self._ask(md5, copy))

    def missing_message(self, md5: str) -> str:
        """Returns a sentence that says where the object was looked for, and how to get it."""
        places = " and ".join([place for place, _ in self._databases])
        unreachable = [f"; {place} does not answer ({reason})" for place, reason in self.unreachable.items()]
        unreadable = f"; {CACHE} cannot read it ({self.unreadable[md5]})" if md5 in self.unreadable else ""
        return (
            f"{md5} has no intact copy in {places}{''.join(unreachable)}{unreadable};"
            " run 'dvc pull', or 'dvc push' on a machine that has it"
        )

    def _built(self, path: Path) -> "HashFile":
        from dvc_data.hashfile.build import build

        # As DVC's outputs do it: files whose size and time have not changed are not read again.
        odb = self._repo.cache.local
        return build(odb, str(path.absolute()), odb.fs, "md5", dry_run=True, ignore=self._repo.dvcignore)[2]

    def _ask(
        self, md5: str, question: Callable[[str, "FileSystem"], Answer]
    ) -> Iterator[tuple[str, "HashFileDB", Answer | None]]:
        """Yields each place that has the object with the hash `md5`, and the answer to `question` for its path there.

        The answer is None if the cache's copy cannot be read.
        """
        for place, database in self._databases:
            if place in self.unreachable:
                continue
            try:
                odb = database()
                answer = question(odb.oid_to_path(md5), odb.fs)
            except FileNotFoundError:
                continue
            # Every kind of remote raises the exceptions of its own library.
            except Exception as error:
                if place != CACHE or not isinstance(error, OSError):
                    self.unreachable[place] = one_line(error)
                    continue
                # One unreadable file on disk says nothing about the next.
                self.unreadable[md5], answer = one_line(error), None
            yield place, odb, answer

    @cached_property
    def _databases(self) -> list[tuple[str, Callable[[], "HashFileDB"]]]:
        default = self._repo.config["core"].get("remote")
        names = sorted(self._repo.config["remote"], key=lambda name: (name != default, name))
        remotes = [(f"remote {name!r}", cache(partial(self._repo.cloud.get_remote_odb, name))) for name in names]
        return [(CACHE, lambda: self._repo.cache.local), *remotes]


def _changed_names(entries: Iterable[object]) -> Iterator[str]:
    """The names in one stage's entries of `Repo.status`."""
    # An entry that is a word says, for example, that a stage always runs.
    for entry in entries:
        if isinstance(entry, dict):
            for changes in entry.values():
                yield from _names(changes)


def _names(changes: Mapping[str, object]) -> Iterator[str]:
    for path, change in changes.items():
        yield from (f"{path} {key}" for key in change) if isinstance(change, dict) else [path]


def _files(tree: "Tree") -> dict[str, str]:
    files = {PurePosixPath(*key).as_posix(): str(hash_info.value) for key, _, hash_info in tree}
    outside = [name for name in files if name.startswith("/") or ".." in PurePosixPath(name).parts]
    if outside:
        raise UserError(f"a folder in DVC's cache or remote lists {outside[0]!r}; expected paths within the folder")
    return files


def _md5_at(path: str, file_system: "FileSystem") -> str:
    from dvc_data.hashfile.hash import hash_file

    # DVC's own `check` trusts read-only and remembered files, and deletes damaged ones.
    return str(hash_file(path, file_system, "md5")[1].value)


def _plain(md5: str) -> str:
    return md5.removesuffix(FOLDER)


def one_line(error: BaseException) -> str:
    """The error's text in one line of at most 200 characters, without passwords, or the name of its class."""
    from dvc.lock import LockError

    if isinstance(error, LockError):
        advice = "try again when it has ended, or remove .dvc/tmp/rwlock if there is none"
        return f"another DVC command is using this checkout; {advice}"
    return " ".join(without_passwords(str(error)).split())[:200] or type(error).__name__
