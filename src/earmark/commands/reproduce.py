"""`earmark reproduce`: makes a registered version again from its commit and recordings, and compares the results."""

import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from earmark.errors import UserError
from earmark.io import hashing
from earmark.io.files import write_text
from earmark.models import backend
from earmark.params import Params, yaml
from earmark.paths import ACCEPTED, FEATURES, METRICS, MODELS, RAW
from earmark.provenance import environment, store, version_record
from earmark.provenance.store import Registered
from earmark.tracking import runs
from earmark.versioning import dvc_run, git
from earmark.versioning.dvc import FOLDER, Objects, objects
from earmark.versioning.dvc_lock import hash_tag

_COMPARED = ("accepted clips", "features", "weights")
_IGNORED_METRICS = re.compile(r"(^|\.)(train_seconds|train_clips_per_second|latency_ms[^.]*|content_sha256)$")
REQUIRED_FILES = (version_record.PARAMS, version_record.DVC_LOCK_FILE, version_record.METRICS_FILE)


def reproduce(params: Params, name: str) -> tuple[str, bool]:
    """Makes a version again in a temporary folder; `name` is its number or an alias.

    Returns a report, and whether accepted clips, features, weights and metrics are identical. This checkout, its DVC
    cache and its MLflow do not change.

    Raises:
        UserError: there is no such version, or its code or recordings are not available.
    """
    version = store.read(params.register_.name, name)
    _require_provenance(version)
    prefix = f"earmark-reproduce-{version.number}-"
    with dvc_run.sigterm_exits(), objects() as dvc, tempfile.TemporaryDirectory(prefix=prefix) as folder:
        checkout = Path(folder) / "checkout"
        _prepare(version, dvc, checkout)
        failure = _rerun(version, checkout)
        differences = [failure] if failure else list(_differences(version, dvc, checkout))
    return _report(version, differences), not differences


def _require_provenance(version: Registered) -> None:
    """Refuses a version that lacks what this command needs, or whose files, which decide what it runs, were changed."""
    record, kept = version.provenance.record, version.provenance.files
    if store.RECORD in kept:  # first: it has the hashes of the others
        _require_unchanged(version, store.RECORD)
    names = ["candidate", "git_commit", "git_dirty", runs.CONTENT, hash_tag(RAW)]
    missing = [name for name in names if name not in record]
    files = [*REQUIRED_FILES, *([version_record.CODE_PATCH] if record.get("git_dirty") == "true" else [])]
    missing += [f"{store.FOLDER}/{name} of its run" for name in files if name not in kept]
    if missing:
        raise UserError(f"{version.title} cannot be rebuilt: it has no record of {', '.join(missing)}")
    for name in files:
        _require_unchanged(version, name)


def _require_unchanged(version: Registered, name: str) -> None:
    recorded = version.provenance.record.get(environment.SHA256 + name)
    if version_record.sha256(version.provenance.files[name]) != recorded:
        raise UserError(
            f"{version.title} cannot be rebuilt: {store.FOLDER}/{name} of its run was changed after registration"
        )


def _prepare(version: Registered, dvc: Objects, checkout: Path) -> None:
    """Puts the version's code, parameters, dvc.lock and recordings into the new folder `checkout`."""
    record, files = version.provenance.record, version.provenance.files
    _say(f"git commit {record['git_commit']}" + (" and uncommitted code" if record["git_dirty"] == "true" else ""))
    patch = files[version_record.CODE_PATCH] if record["git_dirty"] == "true" else b""
    git.check_out(record["git_commit"], patch, checkout)
    for name in (version_record.PARAMS, version_record.DVC_LOCK_FILE):
        (checkout / name).write_bytes(files[name])
    # Otherwise extract could write to a bucket.
    _change_params(checkout, "extract", lambda _: {"raw": RAW.as_posix(), "features": FEATURES.as_posix()})
    _say(f"{RAW} {record[hash_tag(RAW)]}")
    dvc.restore(record[hash_tag(RAW)], checkout / RAW)


def _change_params(checkout: Path, section: str, change: Callable[[Mapping[str, Any]], Mapping[str, object]]) -> None:
    """Sets what `change` returns for a section of the version's parameters."""
    path = checkout / version_record.PARAMS
    try:
        content = yaml.load(path.read_text(encoding="utf-8"))
        content[section] = content[section] | change(content[section])
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError):
        raise UserError(
            f"the version's {version_record.PARAMS} cannot be read; expected YAML with a section {section!r}"
        ) from None
    write_text(path, yaml.dump(content))


def _only(candidate: str, train: Mapping[str, Any]) -> object:
    """One of the candidates of the section `train`; in versions of older code, that is a list of names."""
    candidates = train["candidates"]
    return {candidate: candidates[candidate]} if isinstance(candidates, Mapping) else [candidate]


def _rerun(version: Registered, checkout: Path) -> str:
    """Runs the stages through DVC; returns a sentence about the stage that failed, "" if none did."""
    for stage in ("validate", "extract", f"train@{version.candidate}", "evaluate"):
        if stage == "evaluate":
            # Only now: features were extracted for all candidates then, and have to be compared.
            _change_params(checkout, "train", lambda train: {"candidates": _only(version.candidate, train)})
        _say(stage)
        code = dvc_run.run(stage, checkout)
        if code:
            return f"the stage {stage} failed with exit code {code}; its output is above"
    return ""


def _differences(version: Registered, dvc: Objects, checkout: Path) -> Iterator[str]:
    record, files = version.provenance.record, version.provenance.files
    paths = [ACCEPTED] if version_record.FEATURES_AT in record else [ACCEPTED, FEATURES]
    model = MODELS / version.candidate
    hashes = [
        *((path, record.get(hash_tag(path), ""), dvc.md5(checkout / path)) for path in paths),
        (model, record[runs.CONTENT], hashing.content_sha256(checkout / model)),
    ]
    for path, old, new in hashes:
        if old != new:
            first = _first_changed_file(path, version, dvc, checkout)
            yield f"{path}: {old or version_record.UNRECORDED} -> {new}{first}"
    old_metrics = _metrics(files[version_record.METRICS_FILE], version)
    yield from metric_differences(old_metrics, _metrics(_read(checkout / METRICS), version))


def _first_changed_file(path: Path, version: Registered, dvc: Objects, checkout: Path) -> str:
    md5 = version.provenance.record.get(hash_tag(path), "")
    recorded = dvc.files(md5) if md5.endswith(FOLDER) else None
    if recorded is None:
        return ""
    files = dvc.files_of(checkout / path)
    changed = [name for name in sorted({*recorded, *files}) if recorded.get(name) != files.get(name)]
    return f", first in {changed[0]}" if changed else ""


def _metrics(content: bytes, version: Registered) -> dict[str, Any]:
    try:
        metrics: dict[str, Any] = json.loads(content)["candidates"][version.candidate]
    except (ValueError, KeyError, TypeError):
        return {}
    return metrics


def metric_differences(old_metrics: Mapping[str, object], new_metrics: Mapping[str, object]) -> list[str]:
    """Returns a line "name: old -> new" for each figure of a candidate that differs, at any depth.

    Times, which differ in every run, and the model's hash are ignored.
    """
    old, new = dict(_flat(old_metrics)), dict(_flat(new_metrics))
    names = [name for name in sorted({*old, *new}) if not _IGNORED_METRICS.search(name)]
    pairs = [(name, old.get(name, "absent"), new.get(name, "absent")) for name in names]
    return [f"{name}: {before} -> {after}" for name, before, after in pairs if before != after]


def _flat(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        yield name, value
        return
    for key, item in items:
        yield from _flat(item, f"{name}.{key}" if name else str(key))


def _report(version: Registered, differences: list[str]) -> str:
    if not differences:
        compared = (
            ("accepted clips", "weights") if version_record.FEATURES_AT in version.provenance.record else _COMPARED
        )
        return f"identical: {version.title}, {version.candidate}: {', '.join(compared)} and metrics"
    lines = [f"differs: {version.title}, {version.candidate}", *(f"  {difference}" for difference in differences)]
    reasons = list(_reasons(version))
    return "\n".join([*lines, *(["possible reasons:"] if reasons else []), *(f"  {reason}" for reason in reasons)])


def _reasons(version: Registered) -> Iterator[str]:
    record, trained = version.provenance.record, version.run_tags or {}
    lock = record.get(environment.SHA256 + environment.REQUIREMENTS, version_record.UNRECORDED)
    training_lock = trained.get(environment.SHA256 + environment.REQUIREMENTS, lock)
    current_lock = version_record.sha256(_read(version_record.KEPT[environment.REQUIREMENTS]))
    if lock != current_lock:
        yield f"{environment.REQUIREMENTS} of the environment differs: SHA-256 {lock} -> {current_lock}"
    if training_lock != lock:
        yield f"{environment.REQUIREMENTS} at training: SHA-256 {training_lock}; at registration: {lock}"
    for name, key, current in (
        ("processor", "cpu", environment.describe_cpu()),
        ("backend", "trained_by", _backend()),
    ):
        if trained.get(key, version_record.UNRECORDED) != current:
            yield f"the {name} differs: {trained.get(key, version_record.UNRECORDED)} -> {current}"
    commit = trained.get("git_commit", version_record.UNRECORDED)
    if commit != record["git_commit"]:
        yield f"it was trained at git commit {commit} and registered at {record['git_commit']}"
    if record.get("dvc_lock", version_record.UNRECORDED) != "agrees":
        yield f"dvc.lock at registration: {record.get('dvc_lock', version_record.UNRECORDED)}"


def _backend() -> str:
    """The backend and devices of this machine, in the form of the runs' tag `trained_by`."""
    try:
        backend.start()
        return backend.description()
    except Exception as error:  # every backend has exceptions of its own
        return f"none, because Keras does not start: {' '.join(str(error).split())[:200]}"


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _say(text: str) -> None:
    print(f"reproduce: {text}", file=sys.stderr, flush=True)
