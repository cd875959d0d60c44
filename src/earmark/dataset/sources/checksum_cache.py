"""SHA-256 of large files, remembered from one start to the next for as long as a file keeps its size and time."""

import json
import os
import tempfile
from pathlib import Path

from earmark.dataset.sources.archive import sha256_of


def remembered_sha256(path: Path, memory: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits, from ``memory`` where path, size and time are those noted there.

    ``memory`` is a JSON file; it is replaced as a whole, and one that is missing or damaged counts as empty.
    """
    file = path.resolve()
    status = file.stat()
    version = [status.st_size, status.st_mtime_ns]
    noted = _load(memory).get(str(file))
    if isinstance(noted, dict) and noted.get("version") == version and isinstance(noted.get("sha256"), str):
        return noted["sha256"]
    sha256 = sha256_of(file)
    # Read once more: another process may have added to it while this one was hashing.
    _store(memory, _load(memory) | {str(file): {"version": version, "sha256": sha256}})
    return sha256


def _load(memory: Path) -> dict:
    try:
        content = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _store(memory: Path, content: dict) -> None:
    memory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=memory.parent, suffix=".tmp", delete=False) as file:
        json.dump(content, file, indent=1, sort_keys=True)
    os.replace(file.name, memory)
