"""`earmark reproduce`: a registered version made again, from its commit and its recordings, in a folder of its own."""

import json
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

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

_COMPARED = ("accepted clips", "features", "weights")
_UNCOMPARED = re.compile(r"(^|\.)(train_seconds|train_clips_per_second|latency_ms[^.]*|content_sha256)$")
NEEDED_FILES = (version_record.PARAMS, version_record.DVC_LOCK, version_record.METRICS_FILE)


def reproduce(params: Params, wanted: str) -> tuple[str, bool]:
    """Makes the version of register.name with the number or alias `wanted` again; returns what came out, and whether
    accepted clips, features, weights and metrics are the same.

    Nothing in this checkout, its DVC cache or its MLflow changes. UserError where there is no such version, or its
    code or recordings cannot be had.
    """
    version = store.read(params.register_.name, wanted)
    _require(version)
    prefix = f"earmark-reproduce-{version.number}-"
    with dvc_run.sigterm_exits(), objects() as dvc, tempfile.TemporaryDirectory(prefix=prefix) as folder:
        checkout = Path(folder) / "checkout"
        _prepare(version, dvc, checkout)
        failed = _rerun(version, checkout)
        found = [failed] if failed else list(_differences(version, dvc, checkout))
    return _report(version, found), not found


def _require(version: Registered) -> None:
    tags = ["candidate", "git_commit", "git_dirty", runs.CONTENT, version_record.DVC + RAW.as_posix()]
    missing = [f"the tag {tag}" for tag in tags if tag not in version.origin.tags]
    needed = [*NEEDED_FILES, *([version_record.CODE_PATCH] if version.origin.tags.get("git_dirty") == "true" else [])]
    missing += [f"{store.FOLDER}/{name} of its run" for name in needed if name not in version.origin.files]
    if missing:
        raise UserError(f"{version.title} cannot be made again, since these are not recorded: {', '.join(missing)}")
    # All of these decide what is run here.
    for name in needed:
        if version_record.sha256(version.origin.files[name]) != version.origin.tags.get(version_record.SHA256 + name):
            raise UserError(
                f"{version.title} cannot be made again: {store.FOLDER}/{name} of its run is not the one that it was"
                " registered with"
            )


def _prepare(version: Registered, dvc: Objects, checkout: Path) -> None:
    """The version's code, parameters, dvc.lock and recordings as a checkout in the new folder `checkout`."""
    tags, files = version.origin.tags, version.origin.files
    _say(f"git commit {tags['git_commit']}" + (", and what it lacked" if tags["git_dirty"] == "true" else ""))
    patch = files[version_record.CODE_PATCH] if tags["git_dirty"] == "true" else b""
    git.check_out(tags["git_commit"], patch, checkout)
    for name in (version_record.PARAMS, version_record.DVC_LOCK):
        (checkout / name).write_bytes(files[name])
    # Nothing may be written to addresses.
    local = {"raw": RAW.as_posix(), "features": FEATURES.as_posix()}
    _change_params(checkout, "extract", local)
    _say(f"{RAW} {tags[version_record.DVC + RAW.as_posix()]}")
    dvc.restore(tags[version_record.DVC + RAW.as_posix()], checkout / RAW)


def _change_params(checkout: Path, section: str, values: Mapping[str, object]) -> None:
    path = checkout / version_record.PARAMS
    try:
        content = yaml.load(path.read_text(encoding="utf-8"))
        content[section] = content[section] | values
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError):
        raise UserError(
            f"the version's {version_record.PARAMS} cannot be read; needed is the one of its registration"
        ) from None
    write_text(path, yaml.dump(content))


def _rerun(version: Registered, checkout: Path) -> str:
    """Runs the stages through DVC; returns a sentence on the one that failed, "" if none."""
    for stage in ("validate", "extract", f"train@{version.candidate}", "evaluate"):
        if stage == "evaluate":
            # Other candidates were extracted for, as they were then, and are not trained.
            _change_params(checkout, "train", {"candidates": [version.candidate]})
        _say(stage)
        code = dvc_run.run(stage, checkout)
        if code:
            return f"the stage {stage} fails now, with exit code {code}; what it said is above"
    return ""


def _differences(version: Registered, dvc: Objects, checkout: Path) -> Iterator[str]:
    tags, files = version.origin.tags, version.origin.files
    compared = [ACCEPTED] if version_record.FEATURES_AT in tags else [ACCEPTED, FEATURES]
    for path in compared:
        recorded, found = (
            tags.get(version_record.DVC + path.as_posix(), version_record.UNRECORDED),
            dvc.md5(checkout / path),
        )
        if recorded != found:
            yield f"{path}: {recorded} -> {found}{_first_other_file(path, version, dvc, checkout)}"
    model = MODELS / version.candidate
    recorded, found = tags[runs.CONTENT], hashing.content_sha256(checkout / model)
    if recorded != found:
        yield f"{model}: {recorded} -> {found}{_first_other_file(model, version, dvc, checkout)}"
    recorded, found = (
        _metrics(each, version) for each in (files[version_record.METRICS_FILE], _read(checkout / METRICS))
    )
    yield from metric_differences(recorded, found)


def _first_other_file(path: Path, version: Registered, dvc: Objects, checkout: Path) -> str:
    md5 = version.origin.tags.get(version_record.DVC + path.as_posix(), "")
    recorded = dvc.files(md5) if md5.endswith(FOLDER) else None
    if recorded is None:
        return ""
    found = dvc.files_of(checkout / path)
    others = [name for name in sorted({*recorded, *found}) if recorded.get(name) != found.get(name)]
    return f", first in {others[0]}" if others else ""


def _metrics(content: bytes, version: Registered) -> dict:
    try:
        return json.loads(content)["candidates"][version.candidate]
    except (ValueError, KeyError, TypeError):
        return {}


def metric_differences(recorded: Mapping[str, object], found: Mapping[str, object]) -> list[str]:
    """A line "name: old -> new" for each figure of a candidate that is not the same, at whatever depth; but for times,
    which no two runs share, and for the model's hash."""
    old, new = dict(_flat(recorded)), dict(_flat(found))
    names = [name for name in sorted({*old, *new}) if not _UNCOMPARED.search(name)]
    pairs = [(name, old.get(name, "absent"), new.get(name, "absent")) for name in names]
    return [f"{name}: {before} -> {after}" for name, before, after in pairs if before != after]


def _flat(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        yield name, value
        return
    for key, each in items:
        yield from _flat(each, f"{name}.{key}" if name else str(key))


def _report(version: Registered, differences: list[str]) -> str:
    if not differences:
        compared = ("accepted clips", "weights") if version_record.FEATURES_AT in version.origin.tags else _COMPARED
        return f"identical: {version.title}, {version.candidate}: {', '.join(compared)} and metrics"
    lines = [f"differs: {version.title}, {version.candidate}", *(f"  {each}" for each in differences)]
    reasons = list(_reasons(version))
    return "\n".join([*lines, *(["what may be the reason:"] if reasons else []), *(f"  {each}" for each in reasons)])


def _reasons(version: Registered) -> Iterator[str]:
    tags, trained = version.origin.tags, version.run_tags or {}
    lock = tags.get(version_record.SHA256 + version_record.REQUIREMENTS, version_record.UNRECORDED)
    trained_with = trained.get(version_record.SHA256 + version_record.REQUIREMENTS, lock)
    here = version_record.sha256(_read(version_record.KEPT[version_record.REQUIREMENTS]))
    if lock != here:
        yield f"{version_record.REQUIREMENTS} of the environment is another: SHA-256 {lock} -> {here}"
    if trained_with != lock:
        yield f"requirements.lock when it was trained: SHA-256 {trained_with}; when it was registered: {lock}"
    for what, key, now in (("processor", "cpu", environment.describe_cpu()), ("backend", "trained_by", _backend())):
        if trained.get(key, version_record.UNRECORDED) != now:
            yield f"the {what} is another: {trained.get(key, version_record.UNRECORDED)} -> {now}"
    trained_at = trained.get("git_commit", version_record.UNRECORDED)
    if trained_at != tags["git_commit"]:
        yield f"it was trained at git commit {trained_at} and registered at {tags['git_commit']}"
    if tags.get("dvc_lock", version_record.UNRECORDED) != "agrees":
        yield f"dvc.lock when it was registered: {tags.get('dvc_lock', version_record.UNRECORDED)}"


def _backend() -> str:
    """What would train here, as runs say it."""
    try:
        backend.start()
        return backend.description()
    except Exception as error:  # each backend fails with exceptions of its own, and training it failed then too
        return f"none, since Keras does not start: {' '.join(str(error).split())[:200]}"


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _say(text: str) -> None:
    print(f"reproduce: {text}", file=sys.stderr, flush=True)
