"""What DVC recorded in dvc.lock when each stage last ran."""

from pathlib import Path, PurePath
from typing import Any

from earmark.errors import UserError
from earmark.params import yaml
from earmark.paths import DVC_LOCK


def dvc_stages(lock: Path = DVC_LOCK) -> dict[str, dict[str, Any]]:
    """Returns what DVC recorded when each stage last ran: stage -> cmd, deps, params, outs. Empty without a dvc.lock.

    Raises:
        UserError: dvc.lock cannot be read.
    """
    try:
        content = yaml.load(lock.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{lock} is not YAML: {' '.join(str(error).split())[:200]}") from None
    stages = content.get("stages", {}) if isinstance(content, dict) else None
    if not (isinstance(stages, dict) and all(map(_is_stage, stages.values()))):
        raise UserError(f"{lock} is not YAML that DVC wrote; expected stages, each with its outs by path")
    return stages


def _is_stage(entry: object) -> bool:
    outs = entry.get("outs", []) if isinstance(entry, dict) else None
    return isinstance(outs, list) and all(isinstance(out, dict) and "path" in out for out in outs)


def output_hashes() -> dict[str, str]:
    """Returns the recorded hash of each output: path -> hash."""
    outs = [out for stage in dvc_stages().values() for out in stage.get("outs", [])]
    return {out["path"]: out["md5"] for out in outs if "md5" in out}


def hash_tag(output: str | PurePath) -> str:
    """The tag of a run or version in MLflow that holds DVC's hash of an output: `dvc.<path>`."""
    return f"dvc.{PurePath(output).as_posix()}"
