"""Files in DVC's local cache, by hash."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path


def cached_file(md5: str) -> Path | None:
    """Returns the file in DVC's local cache with this hash, or None."""
    path = _cache() / object_path(md5)
    return path if md5 and path.is_file() else None


def cached_listings() -> list[dict[str, str]]:
    """Returns the listing of each folder version in DVC's local cache: path within the folder -> hash."""
    listings = sorted((_cache() / "files/md5").glob("*/*.dir"))
    contents = [json.loads(path.read_text(encoding="utf-8")) for path in listings]
    return [{entry["relpath"]: entry["md5"] for entry in content} for content in contents]


def object_path(md5: str) -> str:
    """The path of the object with this hash, relative to DVC's cache or a remote."""
    return f"files/md5/{md5[:2]}/{md5[2:]}"


@cache
def _cache() -> Path:
    try:
        done = subprocess.run([sys.executable, "-m", "dvc", "cache", "dir"], capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError:
        return Path(".dvc/cache")
    return Path(done.stdout.strip())
