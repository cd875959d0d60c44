"""A process of its own that decodes what it is sent, with little address space: a crash, a hang or an allocation from
a lying header ends it and not the test."""

import pickle
import subprocess
import sys
import tempfile
import traceback
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

SPARE_BYTES = 300 * 2**20
"""Address space above what the child holds after it decoded one recording of each kind."""
SECONDS = 60
"""Far above what any case takes; a case that takes longer hangs."""


class Child:
    """Use as a context manager. After a case that ended the process, the next case gets a new one."""

    def __init__(self) -> None:
        self.stderr = tempfile.TemporaryFile()  # noqa: SIM115
        self.process: subprocess.Popen | None = None

    def outcome(self, content: bytes) -> dict[str, tuple[str, object]]:
        """For each function of decode.py: ("accepted", its result), ("refused", reason) or ("failed", traceback)."""
        if self.process is None:
            self._start()
        self.pipe.send_bytes(content)
        try:
            if self.pipe.poll(SECONDS):
                return pickle.loads(self.pipe.recv_bytes())
        except EOFError:
            pass
        self._end()
        raise AssertionError(f"decoding {len(content)} bytes hung or crashed: {self.stderr_text()[-2000:]}")

    def stderr_text(self) -> str:
        """All of its stderr."""
        self.stderr.seek(0)
        return self.stderr.read().decode(errors="replace")

    def _start(self) -> None:
        self.pipe, theirs = Pipe()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, Path(__file__), str(theirs.fileno())], pass_fds=[theirs.fileno()], stderr=self.stderr
            )

    def _end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.pipe.close()
            self.process = None

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self.stderr.close()


def _attempt(function, *arguments) -> tuple[str, object]:
    from earmark.audio.decode import DecodeError

    try:
        return "accepted", function(*arguments)
    except DecodeError as error:
        return "refused", str(error)
    except BaseException:
        return "failed", traceback.format_exc()


def _outcome(content: bytes) -> dict[str, tuple[str, object]]:
    from earmark.audio import decode

    return {
        "facts": _attempt(decode.facts, content),
        "decode": _attempt(decode.decode, content),
        "clip": _attempt(decode.clip, content, 16_000, 16_000, "silence"),
        "mono": _attempt(decode.mono, content, 16_000),
    }


def _serve(pipe: Connection) -> None:
    import resource

    import psutil

    from support.recordings import WRITTEN, written

    for kind in WRITTEN:
        _outcome(written(*kind))
    limit = psutil.Process().memory_info().vms + SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    while True:
        pipe.send_bytes(pickle.dumps(_outcome(pipe.recv_bytes())))


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])
    try:
        _serve(Connection(int(sys.argv[1])))
    except EOFError:
        sys.exit()
