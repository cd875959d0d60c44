"""Gathers the provenance of a version when it is registered, so that it can be traced and reproduced later."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pandas as pd

from earmark.dataset import shards
from earmark.errors import UserError
from earmark.io.files import is_local
from earmark.params import PATH, Params, environment
from earmark.paths import ACCEPTED, DVC_LOCK, FEATURES, METRICS, MODELS, RAW, VALIDATION_RESULT, features_folder
from earmark.provenance.environment import LOCK, REQUIREMENTS, SHA256
from earmark.provenance.store import Provenance
from earmark.reporting.outcomes import Outcome
from earmark.versioning import dvc_lock, git
from earmark.versioning.dvc import objects

FEATURES_AT = "features_at"
"""The key of the address of features that DVC does not track."""
MANIFEST = RAW / shards.MANIFEST
PARAMS, DVC_LOCK_FILE = PATH.name, DVC_LOCK.name
UNRECORDED = "not recorded"
"""Shown for what a version lacks."""
CODE_PATCH, METRICS_FILE, VALIDATION_FILE = "code.patch", METRICS.name, "validation.json"
KEPT = {
    PARAMS: PATH,
    DVC_LOCK_FILE: DVC_LOCK,
    REQUIREMENTS: LOCK,
    METRICS_FILE: METRICS,
    VALIDATION_FILE: VALIDATION_RESULT,
}


def gather(candidate: str, params: Params) -> Provenance:
    """Gathers the provenance of models/`candidate` from the files of this checkout.

    Record: git's commit and state; `dvc.<path>`, DVC's hash of each output as it is now; `features_at`, the address of
    features outside this machine; `dvc_lock`, whether dvc.lock has the same hashes; `sha256.<file>` of each file below;
    `validation`; `speakers_sha256`; and `prefect_flow_run_id` if there is one. Files: parameters, locks, metrics, the
    result of validation, and `code.patch` if there are uncommitted changes.
    """
    files = dict(_files())
    flow_run = environment.flow_run_id()
    return Provenance(
        record={
            **git.git_state(),
            **_dvc_tags(dict(_outputs(candidate, params))),
            **({} if is_local(features_folder(params)) else {FEATURES_AT: params.extract.features}),
            **{SHA256 + name: sha256(content) for name, content in files.items()},
            "validation": _validation(files),
            "speakers_sha256": speakers_sha256(pd.read_parquet(ACCEPTED, columns=["speaker"])["speaker"]),
            **({"prefect_flow_run_id": flow_run} if flow_run else {}),
        },
        files=files,
    )


def outputs(candidate: str) -> dict[str, str]:
    """The outputs that a version depends on, from its model back to the raw data: path in `dvc.<path>` -> name."""
    return {
        (MODELS / candidate).as_posix(): "model",
        FEATURES.as_posix(): "features",
        ACCEPTED.as_posix(): "accepted clips",
        RAW.as_posix(): "raw data",
        MANIFEST.as_posix(): "manifest",
    }


def speakers_sha256(speakers: Iterable[str]) -> str:
    """SHA-256 of the distinct speakers, sorted, one per line, in UTF-8."""
    return sha256("".join(f"{speaker}\n" for speaker in sorted(set(speakers))).encode())


def sha256(content: bytes) -> str:
    """SHA-256 of `content`, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def _files() -> Iterator[tuple[str, bytes]]:
    for name, path in KEPT.items():
        with suppress(FileNotFoundError):
            yield name, path.read_bytes()
    patch = git.uncommitted_patch()
    if patch:
        yield CODE_PATCH, patch


def _outputs(candidate: str, params: Params) -> Iterator[tuple[str, Path]]:
    """Yields the path that names each output and its actual path, for outputs on this machine."""
    for path in outputs(candidate):
        actual = features_folder(params) if path == FEATURES.as_posix() else Path(path)
        if is_local(actual):
            yield path, actual if isinstance(actual, Path) else Path(actual.path)


def _dvc_tags(outputs: Mapping[str, Path]) -> dict[str, str]:
    try:
        with objects() as dvc:
            hashes = {path: dvc.md5(actual) for path, actual in outputs.items() if actual.exists()}
    except UserError as error:
        return {"dvc_lock": f"unknown: {error}"}
    tags = {dvc_lock.hash_tag(path): md5 for path, md5 in hashes.items()}
    return tags | {"dvc_lock": _lock_state({outputs[path].as_posix(): md5 for path, md5 in hashes.items()})}


def _lock_state(hashes: Mapping[str, str]) -> str:
    recorded = dvc_lock.output_hashes()
    if not recorded:
        return "absent: no stage has run under DVC"
    # dvc.lock has the manifest only as part of data/raw.
    differing = [path for path, md5 in hashes.items() if path != MANIFEST.as_posix() and recorded.get(path) != md5]
    return f"differs from the files: {', '.join(differing)}" if differing else "agrees"


def _validation(files: dict[str, bytes]) -> str:
    try:
        result = json.loads(files[VALIDATION_FILE])
        return f"{Outcome.PASSED if result['passed'] else Outcome.FAILED}: {result['sentence']}"[:500]
    except (KeyError, ValueError, TypeError):
        return "unknown: the result is missing"
