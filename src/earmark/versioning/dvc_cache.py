"""Files in DVC's local cache, by hash."""

import json
from functools import cache
from pathlib import Path

from earmark.errors import UserError


def cached_file(md5: str) -> Path | None:
    """Returns the file in DVC's local cache with this hash, or None."""
    path = _cache() / object_path(md5)
    return path if md5 and path.is_file() else None


def cached_listings() -> list[dict[str, str]]:
    """Returns the listing of each folder version in DVC's local cache: path within the folder -> hash."""
    listings = sorted((_cache() / "files/md5").glob("*/*.dir"))
    return [_listing(path) for path in listings]


def _listing(path: Path) -> dict[str, str]:
    try:
        return {entry["relpath"]: entry["md5"] for entry in json.loads(path.read_text(encoding="utf-8"))}
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} in DVC's cache is damaged; remove it, 'dvc push' or 'dvc pull' restores it") from None


def object_path(md5: str) -> str:
    """The path of the object with this hash, relative to DVC's cache or a remote."""
    return f"files/md5/{md5[:2]}/{md5[2:]}"


def _cache() -> Path:
    return _cache_of(Path.cwd())


@cache
def _cache_of(checkout: Path) -> Path:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(checkout)) as repo:
            return Path(repo.cache.local_cache_dir)
    except DvcException:
        return checkout / ".dvc/cache"
