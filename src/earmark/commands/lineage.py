"""`earmark lineage`: shows what a registered version was made from, and checks that all of it still exists."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from earmark.errors import UserError
from earmark.io import hashing
from earmark.io.progress import Advance, progress
from earmark.params import Params
from earmark.paths import ACCEPTED, FEATURES
from earmark.provenance import environment, store, version_record
from earmark.provenance.store import Registered
from earmark.reporting.terminal.lineage import table
from earmark.tracking import registered_model, runs
from earmark.versioning import git
from earmark.versioning.dvc import CACHE, FOLDER, Held, Objects, objects
from earmark.versioning.dvc_lock import hash_tag

HOLDS = "holds"


@dataclass(frozen=True)
class Link:
    """One thing that a version was made from.

    Attributes:
        recorded: what the version recorded about it, such as a hash.
        state: what became of it, such as HOLDS.
        faults: what is missing or damaged.
    """

    name: str
    recorded: str
    state: str
    faults: tuple[str, ...] = ()


def lineage(params: Params, name: str) -> tuple[str, bool]:
    """Returns a version's lineage as text, and whether nothing is missing or damaged; `name` is a number or an alias.

    Raises:
        UserError: there is no such version.
    """
    version = store.read(params.register_.name, name)
    links = [*_registry_links(version), *_data_links(version), *_file_links(version), *_other_links(version)]
    faults = [f"{link.name}: {fault}" for link in links for fault in link.faults]
    broken = f"missing or damaged:\n{_indented(faults)}" if faults else "nothing is missing or damaged"
    chain = table([(link.name, link.recorded, link.state) for link in links])
    return f"{version.title}: {version.candidate or 'candidate unknown'}\n{chain}\n{broken}", not faults


def _registry_links(version: Registered) -> Iterator[Link]:
    if version.run_tags is None:
        yield Link("run", version.run_id, "gone", (f"MLflow has no run {version.run_id}",))
    else:
        commit = version.run_tags.get("git_commit", "")
        is_other = commit != version.provenance.record.get("git_commit", "")
        yield Link("run", version.run_id, f"trained at git commit {commit}" if is_other else HOLDS)
    recorded = version.provenance.record.get(runs.CONTENT, "")
    yield _link("registered model", recorded, *_model_faults(version, recorded))


def _model_faults(version: Registered, recorded: str) -> tuple[str, ...]:
    with tempfile.TemporaryDirectory(prefix="earmark-") as folder:
        try:
            sha256 = hashing.content_sha256(registered_model.download_model(version.address, Path(folder)))
        except UserError as error:
            return (str(error),)
    return () if sha256 == recorded else (f"MLflow's model has SHA-256 {sha256}; expected {recorded}",)


def _data_links(version: Registered) -> list[Link]:
    """Looks up the model and its inputs in DVC's cache and remotes."""
    recorded = {
        path: (name, version.provenance.record.get(hash_tag(path), ""))
        for path, name in version_record.outputs(version.candidate).items()
    }
    if version_record.FEATURES_AT in version.provenance.record:
        del recorded[FEATURES.as_posix()]
    with objects() as dvc:
        files = {path: dvc.files(md5) if md5.endswith(FOLDER) else {path: md5} for path, (_, md5) in recorded.items()}
        with progress("lineage", sum(len(listing or ()) for listing in files.values()), "files") as advance:
            links = [_data_link(name, path, md5, files[path], dvc, advance) for path, (name, md5) in recorded.items()]
        lock = Link(
            version_record.DVC_LOCK_FILE, version.provenance.record.get("dvc_lock", version_record.UNRECORDED), ""
        )
        links += [lock, _speakers_link(version, dvc)]
        return links + [Link(place, "", f"does not answer: {reason}") for place, reason in dvc.unreachable.items()]


def _data_link(name: str, path: str, md5: str, files: Mapping[str, str] | None, dvc: Objects, advance: Advance) -> Link:
    if not md5:
        return Link(name, version_record.UNRECORDED, "", (f"the version has no hash of {path}",))
    recorded = f"{path}  {md5}"
    if files is None:
        return Link(name, recorded, "missing", (f"the list of the files of {path}: {dvc.missing_message(md5)}",))
    places, faults = set(), []
    for file, file_md5 in files.items():
        held = dvc.look_up(file_md5)
        file_path = f"{path}/{file}" if md5.endswith(FOLDER) else path
        places |= {held.place} - {""}
        faults += [f"{file_path}: {fault}" for fault in _faults_of(held, file_md5, dvc)]
        advance(1)
    count = f"{len(files)} files, " if md5.endswith(FOLDER) else ""
    state = f"{len(faults)} faults" if faults else f"complete in {' and '.join(sorted(places)) or 'no file'}"
    return Link(name, recorded, count + state, tuple(faults))


def _faults_of(held: Held, md5: str, dvc: Objects) -> Iterator[str]:
    for copy in held.damaged:
        yield f"{copy} is damaged; remove it, then restore it with 'dvc pull' or 'dvc push'"
    if not held.place:
        yield dvc.missing_message(md5)
    elif md5 in dvc.unreadable:
        yield f"{CACHE} cannot read {md5} ({dvc.unreadable[md5]})"


def _speakers_link(version: Registered, dvc: Objects) -> Link:
    recorded = version.provenance.record.get("speakers_sha256", "")
    md5 = version.provenance.record.get(hash_tag(ACCEPTED), "")
    with tempfile.TemporaryDirectory(prefix="earmark-") as folder:
        accepted = Path(folder) / ACCEPTED.name
        if not (md5 and dvc.copied(md5, accepted)):
            return Link(
                "speakers", recorded or version_record.UNRECORDED, "", (f"cannot be checked without {ACCEPTED}",)
            )
        sha256 = version_record.speakers_sha256(pd.read_parquet(accepted, columns=["speaker"])["speaker"])
    faults = () if sha256 == recorded else (f"those of {ACCEPTED} have SHA-256 {sha256}; expected {recorded}",)
    return _link("speakers", recorded, *faults)


def _file_links(version: Registered) -> Iterator[Link]:
    """Checks the code, and the files that the version's run keeps."""
    yield _file_link("record", store.RECORD, version)
    yield _requirements_link(version)
    yield _file_link("parameters", version_record.PARAMS, version)
    yield _file_link("copy of dvc.lock", version_record.DVC_LOCK_FILE, version)
    yield _file_link("metrics", version_record.METRICS_FILE, version)
    yield _file_link("validation", version_record.VALIDATION_FILE, version)
    record = version.provenance.record
    commit = record.get("git_commit", "unknown")
    missing = () if git.has_commit(commit) else (f"this repository has no commit {commit}",)
    yield _link("code", commit, *missing)
    if record.get("git_dirty") != "false":
        yield _file_link("uncommitted code", version_record.CODE_PATCH, version)


def _requirements_link(version: Registered) -> Link:
    link = _file_link("lock file", environment.REQUIREMENTS, version)
    trained = (version.run_tags or {}).get(environment.SHA256 + environment.REQUIREMENTS, link.recorded)
    if link.faults or trained == link.recorded:
        return link
    return replace(link, state=f"{HOLDS}; trained with {trained}")


def _file_link(link_name: str, name: str, version: Registered) -> Link:
    recorded, content = version.provenance.record.get(environment.SHA256 + name, ""), version.provenance.files.get(name)
    if content is None:
        return _link(link_name, recorded, f"{store.FOLDER}/{name} is not among the run's artifacts")
    sha256 = version_record.sha256(content)
    fault = f"{store.FOLDER}/{name} of the run has SHA-256 {sha256}; expected {recorded}"
    return _link(link_name, recorded, *(() if sha256 == recorded else (fault,)))


def _other_links(version: Registered) -> Iterator[Link]:
    """Shows what is recorded and cannot be checked."""
    record = version.provenance.record
    if version_record.FEATURES_AT in record:
        yield Link("features", record[version_record.FEATURES_AT], "not tracked by DVC")
    yield Link("validation result", record.get("validation", version_record.UNRECORDED), "")
    yield Link("flow run", record.get("prefect_flow_run_id", "none: registered from the command line"), "")
    trained = version.run_tags or {}
    cpu = trained.get("cpu", version_record.UNRECORDED)
    yield Link("processor", cpu, "" if cpu == environment.describe_cpu() else "not this machine's")
    yield Link("trained by", trained.get("trained_by", version_record.UNRECORDED), "")


def _link(name: str, recorded: str, *faults: str) -> Link:
    if not recorded:
        return Link(name, version_record.UNRECORDED, "", faults or ("the version has no record of it",))
    return Link(name, recorded, "broken" if faults else HOLDS, faults)


def _indented(lines: list[str]) -> str:
    return "\n".join(f"  {line}" for line in lines)
