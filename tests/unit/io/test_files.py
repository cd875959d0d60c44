"""Files and folders appear whole or not at all, and a killed writer leaves nothing that counts."""

import subprocess
import sys

import pytest

from earmark.io.files import whole_file, whole_folder, write_text


def test_an_error_leaves_the_previous_content_and_nothing_beside_it(tmp_path):
    path, folder = tmp_path / "file.txt", tmp_path / "folder"
    write_text(path, "before")
    folder.mkdir()
    (folder / "kept").write_text("before")
    with pytest.raises(RuntimeError), whole_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    with pytest.raises(RuntimeError), whole_folder(folder) as temporary:
        (temporary / "half").write_text("half")
        raise RuntimeError
    assert path.read_text() == "before"
    assert [file.name for file in folder.iterdir()] == ["kept"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file.txt", "folder"]


@pytest.mark.parametrize("kind", ["whole_file", "whole_folder"])
def test_a_killed_writer_changes_nothing_and_the_next_clears_up(tmp_path, kind):
    path = tmp_path / "result"
    script = (
        "import os, pathlib, signal\n"
        f"from earmark.io.files import {kind}\n"
        f"with {kind}(pathlib.Path({str(path)!r})) as temporary:\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == -9
    assert not path.exists()
    assert len(list(tmp_path.iterdir())) == 1
    write_text(path, "whole")
    assert [file.name for file in tmp_path.iterdir()] == ["result"]
