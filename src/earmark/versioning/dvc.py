"""Files and folders as DVC knows them, by MD5: what hash it would give them, and whether it still has their bytes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeVar

from earmark.errors import UserError

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc_data.hashfile.db import HashFileDB
    from dvc_objects.fs.base import FileSystem

CACHE = "DVC's cache"
FOLDER = ".dir"
"""What DVC's hash of a folder ends with; its object lists the folder's files and their hashes."""
Answer = TypeVar("Answer")


@contextmanager
def objects() -> Iterator["Objects"]:
    """What DVC has of the checkout in the working directory; UserError where that is none of DVC's."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        repo = Repo()
    except DvcException as error:
        raise UserError(f"DVC cannot be asked here: {_one_line(error)}") from None
    try:
        yield Objects(repo)
    finally:
        repo.close()


@dataclass(frozen=True)
class Held:
    """Where an object is whole, as people call the place, "" if nowhere; and its copies with other bytes, by path."""

    place: str
    damaged: tuple[str, ...] = ()


@dataclass
class Objects:
    """DVC's cache and its remotes, the default one first. `unreachable` has why a place did not answer; it is not asked
    again. `unreadable` has why the cache did not give an object that it has, by hash."""

    _repo: "Repo"
    unreachable: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)

    def md5(self, path: Path) -> str:
        """DVC's hash of the file or folder `path` as it is now."""
        return self._built(path).hash_info.value

    def files_of(self, path: Path) -> dict[str, str]:
        """Path within the folder `path` -> hash of the file, as they are now."""
        return _files(self._built(path))

    def files(self, md5: str) -> dict[str, str] | None:
        """Path within the folder with the hash `md5` -> hash of the file; None where no place has its list whole."""
        from dvc_data.hashfile.hash_info import HashInfo
        from dvc_data.hashfile.tree import Tree

        for _, odb, found in self._ask(md5, _md5_at):
            if found == _plain(md5):
                return _files(Tree.load(odb, HashInfo("md5", md5)))
        return None

    def look_up(self, md5: str) -> Held:
        """Reads the object with the hash `md5`, of a folder its list alone, in one place after the other until one has
        it whole."""
        damaged = []
        for place, odb, found in self._ask(md5, _md5_at):
            if found == _plain(md5):
                return Held(place, tuple(damaged))
            damaged += [odb.oid_to_path(md5)] if found else []
        return Held("", tuple(damaged))

    def changes(self, stages: Sequence[str]) -> dict[str, list[str]]:
        """What of each stage's dependencies, parameters and outputs is not as DVC recorded it when the stage last ran,
        for those stages where something is not; of a stage that dvc.yaml has no more, dvc.yaml."""
        from dvc.exceptions import DvcException

        try:
            known = {stage.addressing for stage in self._repo.index.stages}
            asked = [stage for stage in stages if stage in known]
            # Asked about none, DVC tells of all.
            found = self._repo.status(targets=asked) if asked else {}
        except DvcException as error:
            raise UserError(f"DVC cannot be asked here: {_one_line(error)}") from None
        # Beside mappings there are words, such as that a stage always runs.
        named = {
            stage: [name for each in said if isinstance(each, dict) for one in each.values() for name in _names(one)]
            for stage, said in found.items()
        }
        gone = {stage: ["dvc.yaml"] for stage in stages if stage not in known}
        return {stage: names for stage, names in (named | gone).items() if names}

    def restore(self, md5: str, target: Path) -> None:
        """Writes the file or folder with the hash `md5` to `target`, where nothing is yet, as copies whose bytes have
        been checked; UserError where no place has one of them whole."""
        files = self.files(md5) if md5.endswith(FOLDER) else {"": md5}
        if files is None:
            raise UserError(f"{target.name} cannot be had: {self.missing_message(md5)}")
        for name, each in files.items():
            if not self.copied(each, target / name):
                raise UserError(f"{(Path(target.name) / name).as_posix()} cannot be had: {self.missing_message(each)}")

    def copied(self, md5: str, target: Path) -> bool:
        """Writes the file with the hash `md5` to `target`; False where no place has it whole."""
        from dvc_objects.fs.generic import transfer
        from dvc_objects.fs.local import LocalFileSystem

        def copy(path: str, file_system: "FileSystem") -> bool:
            target.unlink(missing_ok=True)
            transfer(file_system, path, local, str(target), links=["reflink", "copy"])
            return _md5_at(str(target), local) == md5

        local = LocalFileSystem()
        target.parent.mkdir(parents=True, exist_ok=True)
        return any(whole for _, _, whole in self._ask(md5, copy))

    def missing_message(self, md5: str) -> str:
        """A sentence on an object that no place has whole."""
        places = " and ".join([place for place, _ in self._databases])
        silent = [f"; {place} does not answer ({reason})" for place, reason in self.unreachable.items()]
        silent += [f"; {CACHE} does not give it ({self.unreadable[md5]})"] if md5 in self.unreadable else []
        return f"{md5} is not whole in {places}{''.join(silent)}; 'dvc pull' or 'dvc push' elsewhere may bring it"

    def _built(self, path: Path):
        from dvc_data.hashfile.build import build

        # As DVC's outputs do it, with its memory of files whose size and time have not changed.
        odb = self._repo.cache.local
        return build(odb, str(path.absolute()), odb.fs, "md5", dry_run=True, ignore=self._repo.dvcignore)[2]

    def _ask(
        self, md5: str, question: Callable[[str, "FileSystem"], Answer]
    ) -> Iterator[tuple[str, "HashFileDB", Answer | None]]:
        """Each place that has the object with the hash `md5`, and what the question makes of its path there; None where
        the cache's copy cannot be read."""
        for place, database in self._databases:
            if place in self.unreachable:
                continue
            try:
                odb = database()
                answer = question(odb.oid_to_path(md5), odb.fs)
            except FileNotFoundError:
                continue
            # Each kind of remote fails with exceptions of its own library.
            except Exception as error:
                if place != CACHE or not isinstance(error, OSError):
                    self.unreachable[place] = _one_line(error)
                    continue
                # What a disk does not give of one file says nothing of the next.
                self.unreadable[md5], answer = _one_line(error), None
            yield place, odb, answer

    @cached_property
    def _databases(self) -> list[tuple[str, Callable[[], "HashFileDB"]]]:
        default = self._repo.config["core"].get("remote")
        names = sorted(self._repo.config["remote"], key=lambda name: (name != default, name))
        remotes = [(f"remote {name!r}", cache(partial(self._repo.cloud.get_remote_odb, name))) for name in names]
        return [(CACHE, lambda: self._repo.cache.local), *remotes]


def _names(changed: Mapping[str, object]) -> Iterator[str]:
    for path, how in changed.items():
        yield from (f"{path} {key}" for key in how) if isinstance(how, dict) else [path]


def _files(tree) -> dict[str, str]:
    files = {PurePosixPath(*key).as_posix(): found.value for key, _, found in tree}
    outside = [name for name in files if name.startswith("/") or ".." in PurePosixPath(name).parts]
    if outside:
        raise UserError(f"a folder in DVC's cache or remote lists {outside[0]!r}; allowed are paths within it")
    return files


def _md5_at(path: str, file_system: "FileSystem") -> str:
    from dvc_data.hashfile.hash import hash_file

    # Not as DVC's `check`, which trusts what is read-only or remembered, and deletes what is damaged.
    return hash_file(path, file_system, "md5")[1].value


def _plain(md5: str) -> str:
    return md5.removesuffix(FOLDER)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
