"""What DVC recorded in dvc.lock when each stage last ran."""

from pathlib import Path

from earmark.errors import UserError
from earmark.params import yaml


def dvc_stages(lock: Path = Path("dvc.lock")) -> dict[str, dict]:
    """What DVC has recorded of each stage when it last ran: cmd, deps, params, outs. Empty where nothing has run under
    DVC; UserError where its lock cannot be read."""
    try:
        found = yaml.load(lock.read_text(encoding="utf-8")) or {}
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
