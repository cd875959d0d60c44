"""A folder of an S3 bucket as a source."""

import hashlib
from collections.abc import Iterator
from functools import partial

from earmark.dataset.sources import s3
from earmark.dataset.sources.source import Context, Source
from earmark.dataset.sources.source_file import Memory, SourceFile

STAGING = "inbox-"
"""Prefix of the folders to which objects of a bucket are fetched."""


def open_source(address: str, context: Context) -> Source | None:
    """Return what is below an address such as "s3://bucket/prefix"; None for other addresses."""
    if not s3.is_address(address):
        return None
    staging = context.downloads / f"{STAGING}{hashlib.sha256(address.encode()).hexdigest()[:12]}"

    def entries(memory: Memory) -> Iterator[SourceFile]:
        return s3.entries(address, staging, memory, context.existing_labels)

    return Source(address, "", partial(s3.local_fingerprint, address), entries, is_shared=True, staging=staging)
