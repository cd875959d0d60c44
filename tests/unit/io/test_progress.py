"""How far something is: lines in a file, a bar on a terminal."""

import os
import pty
import subprocess
import sys

from earmark.io.progress import progress


class Clock:
    """A clock that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_line_every_few_seconds_says_what_is_done_how_fast_and_how_long_the_rest_takes(capsys):
    clock = Clock()
    with progress("extract", 40_000, "clips", clock) as advance:
        for seconds, count in ((2, 4_000), (6, 8_000), (7, 2_000), (12, 10_000)):
            clock.now = 100.0 + seconds
            advance(count)
    assert capsys.readouterr().err.splitlines() == [
        "extract: 12,000 of 40,000 clips, 2,000/s, 14 s left",
        "extract: 24,000 of 40,000 clips, 2,000/s, 8 s left",
    ]


def test_what_is_done_at_once_says_nothing(capsys):
    with progress("extract", 10, "clips", Clock()) as advance:
        advance(10)
    assert capsys.readouterr().err == ""


def test_a_terminal_has_a_bar():
    script = (
        "from earmark.io.progress import progress\n"
        "with progress('extract', 40_000, 'clips') as advance:\n    advance(30_000)\n    advance(10_000)"
    )
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", script], stderr=theirs, env=os.environ | {"COLUMNS": "100"})
    os.close(theirs)
    output = b""
    try:
        while block := os.read(ours, 4096):
            output += block
    except OSError:  # the other end is closed
        pass
    assert process.wait() == 0
    assert "extract" in output.decode()
    assert "40000/40000" in output.decode()
    assert "━" in output.decode()
