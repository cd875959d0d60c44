"""Caches the SHA-256 of large files between runs, as long as a file keeps its size and modification time."""

import json
import os
import tempfile
from pathlib import Path

from earmark.dataset.sources.archive import sha256_of


def cached_sha256(path: Path, cache: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits, from ``cache`` if path, size and modification time match.

    ``cache`` is a JSON file that is replaced atomically; a missing or damaged one counts as empty.
    """
    file = path.resolve()
    status = file.stat()
    version = [status.st_size, status.st_mtime_ns]
    entry = _load(cache).get(str(file))
    if isinstance(entry, dict) and entry.get("version") == version:
        cached = entry.get("sha256")
        if isinstance(cached, str):
            return cached
    sha256 = sha256_of(file)
    # Load it again: another process may have added an entry in the meantime.
    _store(cache, _load(cache) | {str(file): {"version": version, "sha256": sha256}})
    return sha256


def _load(cache: Path) -> dict[str, object]:
    try:
        content = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _store(cache: Path, content: dict[str, object]) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=cache.parent, suffix=".tmp", delete=False) as file:
        json.dump(content, file, indent=1, sort_keys=True)
    os.replace(file.name, cache)
