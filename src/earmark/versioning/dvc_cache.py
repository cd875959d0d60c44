"""Files in DVC's local cache, by hash."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path


def cached_file(md5: str) -> Path | None:
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
