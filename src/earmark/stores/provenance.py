"""Where a result comes from: git's commit and DVC's hashes, as they stand now."""

import hashlib
import json
import os
import platform
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

from earmark.errors import UserError
from earmark.params import yaml

FLOW_RUN_ID = "EARMARK_FLOW_RUN_ID"
"""The variable of the environment in which a flow says what its run is called."""
CODE = ("src", "flows")
"""Folders in which a file counts as code before git knows it."""
UNCODED = (":!data", ":!dvc.lock", ":!reports")
"""What is no code, in git's notation: recordings and results."""
SHA256 = "sha256."
"""What the tag with the SHA-256 of a file begins with; its name follows."""
REQUIREMENTS = "requirements.lock"
LOCK = Path(sys.prefix) / REQUIREMENTS
"""What this environment was made from; `make setup` puts it there."""


def git_state() -> dict[str, str]:
    """`git_commit` and `git_dirty` ("true" where tracked files differ from it, or code is new); "unknown" outside a git
    repository."""
    commit = git("rev-parse", "HEAD")
    if commit is None:
        return {"git_commit": "unknown", "git_dirty": "unknown"}
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", *UNCODED)
    changed = changed or git("ls-files", "--others", "--exclude-standard", "--", *CODE)
    return {"git_commit": commit.decode().strip(), "git_dirty": "true" if changed else "false"}


def cpu() -> str:
    """The kind of processor, and how many cores this process may use: on both depend the last bits of weights."""
    cores = len(os.sched_getaffinity(0))
    kind = platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        kind = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), kind)
    return f"{kind}, cores: {cores}"


def requirements() -> dict[str, str]:
    """The tag with the SHA-256 of the lock that this environment was made from; none where it has none."""
    try:
        return {SHA256 + REQUIREMENTS: hashlib.sha256(LOCK.read_bytes()).hexdigest()}
    except FileNotFoundError:
        return {}


def flow_run_id() -> str:
    """What Prefect calls the run that this process belongs to; "" where there is none."""
    return os.environ.get(FLOW_RUN_ID, "")


def dvc_stages(lock: Path = Path("dvc.lock")) -> dict[str, dict]:
    """What DVC has recorded of each stage when it last ran: cmd, deps, params, outs. Empty where nothing has run under
    DVC; UserError where its lock cannot be read."""
    try:
        found = yaml.loaded(lock.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{lock} is not YAML: {' '.join(str(error).split())[:200]}") from None
    stages = found.get("stages", {}) if isinstance(found, dict) else None
    if not (isinstance(stages, dict) and all(map(_is_stage, stages.values()))):
        raise UserError(f"{lock} is not YAML of DVC's: needed are stages, each with its outs by path")
    return stages


def _is_stage(found: object) -> bool:
    outs = found.get("outs", []) if isinstance(found, dict) else None
    return isinstance(outs, list) and all(isinstance(out, dict) and "path" in out for out in outs)


def dvc_hashes() -> dict[str, str]:
    """DVC's hash of each output that it has recorded: `dvc:<path>` -> hash."""
    outs = [out for stage in dvc_stages().values() for out in stage.get("outs", [])]
    return {f"dvc:{out['path']}": out["md5"] for out in outs if "md5" in out}


def cached(md5: str) -> Path | None:
    """The file in DVC's local cache with this hash, or None where the cache has it not."""
    path = _cache() / object_path(md5)
    return path if md5 and path.is_file() else None


def cached_listings() -> list[dict[str, str]]:
    """What each folder that DVC's local cache knows, in each of its versions, holds: path within it -> hash."""
    listings = sorted((_cache() / "files/md5").glob("*/*.dir"))
    entries = [json.loads(path.read_text(encoding="utf-8")) for path in listings]
    return [{entry["relpath"]: entry["md5"] for entry in each} for each in entries]


def object_path(md5: str) -> str:
    """Where DVC keeps the object with this hash, below its cache and below every remote."""
    return f"files/md5/{md5[:2]}/{md5[2:]}"


@cache
def _cache() -> Path:
    try:
        done = subprocess.run([sys.executable, "-m", "dvc", "cache", "dir"], capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError:
        return Path(".dvc/cache")
    return Path(done.stdout.strip())


def content_sha256(folder: Path, pattern: str = "*") -> str:
    """SHA-256 over the names and bytes of all files in `folder` that match `pattern`."""
    digest = hashlib.sha256()
    for path in sorted(file for file in folder.rglob(pattern) if file.is_file()):
        name = path.relative_to(folder).as_posix().encode()
        digest.update(len(name).to_bytes(8) + name + path.stat().st_size.to_bytes(8) + path.read_bytes())
    return digest.hexdigest()


def git(*arguments: str, **environment: str) -> bytes | None:
    """What git says, with more in its environment; None where it cannot."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, check=True, env=os.environ | environment)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout
