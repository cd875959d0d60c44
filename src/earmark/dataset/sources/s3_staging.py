"""Keeps the objects that were fetched from a bucket until the caller has stored them."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from earmark.dataset.sources.archive import sha256_of
from earmark.dataset.sources.s3_errors import TransferError
from earmark.dataset.sources.s3_keys import BucketObject
from earmark.errors import UserError

_PARTIAL = ".part"


class StagingFolder:
    """A folder of fetched objects, named "<hash of address, key and version>-<SHA-256 of the content>".

    Raises:
        UserError: the folder cannot be written.
    """

    def __init__(self, folder: Path, address: str) -> None:
        self._folder, self._address = folder, address
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for leftover in folder.glob(f"*{_PARTIAL}"):
                leftover.unlink()
            self._files = {file.name.partition("-")[0]: file for file in folder.iterdir()}

    def find(self, item: BucketObject) -> Path | None:
        """Return the file that an earlier call staged for exactly this version, if it is whole."""
        file = self._files.get(self._stem(item))
        is_whole = file is not None and sha256_of(file) == file.name.partition("-")[2]
        return file if is_whole else None

    def store(self, item: BucketObject, chunks: Iterable[bytes]) -> Path:
        """Write the chunks to a file and return it.

        Raises:
            TransferError: there are fewer or more bytes than the object has.
            UserError: the folder cannot be written.
        """
        partial = self._folder / (self._stem(item) + _PARTIAL)
        digest, size = hashlib.sha256(), 0
        with _writing(self._folder):
            try:
                with partial.open("wb") as file:
                    for chunk in chunks:
                        file.write(chunk)
                        digest.update(chunk)
                        size += len(chunk)
                if size != item.size:
                    raise TransferError(f"{size} of {item.size} bytes")
                return partial.replace(self._folder / f"{self._stem(item)}-{digest.hexdigest()}")
            finally:
                partial.unlink(missing_ok=True)

    def _stem(self, item: BucketObject) -> str:
        return hashlib.sha256("\0".join((self._address, item.key, item.version)).encode()).hexdigest()[:32]


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno is None:  # botocore's timeouts are OSErrors too
            raise
        raise UserError(f"{folder} cannot be written ({error.strerror}); expected a folder with space") from error
