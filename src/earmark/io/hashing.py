"""Checksums of files."""

import hashlib
from pathlib import Path


def content_sha256(folder: Path, pattern: str = "*") -> str:
    """SHA-256, as hex digits, over the names and bytes of all files below `folder` that match `pattern`."""
    digest = hashlib.sha256()
    for path in sorted(file for file in folder.rglob(pattern) if file.is_file()):
        name = path.relative_to(folder).as_posix().encode()
        digest.update(len(name).to_bytes(8) + name + path.stat().st_size.to_bytes(8) + path.read_bytes())
    return digest.hexdigest()
