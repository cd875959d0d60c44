"""Workers in processes: where they cannot meet, a sentence says so."""

import tempfile

import pytest

from earmark.errors import UserError
from earmark.io.worker_pool import open_workers


def test_a_temporary_folder_whose_path_is_too_long_for_a_socket_is_refused(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/tmp/" + "d" * 71)
    with (
        pytest.raises(UserError, match=r"^TMPDIR: /tmp/d{71} is too long for a socket; expected at most 75 bytes$"),
        open_workers("", 1, "math"),
    ):
        pass
