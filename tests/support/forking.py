"""Processes that start at once: each is forked from one that has imported what they need, and does what a script does,
with its standard input and output at the test."""

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS = 300


class Forked:
    """A process that runs; its `output`, a text file, is read line by line."""

    def __init__(self, ends: socket.socket, status: socket.socket):
        self._ends, self._status = ends, status.makefile("r")
        ends.settimeout(SECONDS)
        status.settimeout(SECONDS)
        self.input, self.output = ends.makefile("w"), ends.makefile("r")
        self.pid = int(self._status.readline())

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def end(self) -> tuple[int, list[str]]:
        """Waits for its end: exit code, negative for a signal, and the lines that nobody has read."""
        lines = self.output.read().splitlines()
        code = int(self._status.readline())
        for file in (self.input, self.output, self._status, self._ends):
            file.close()
        return code, lines


class Fork:
    """Starts processes in which the module of a script is there."""

    def __init__(self, control: socket.socket):
        self._control = control

    def start(self, *arguments: str) -> Forked:
        """A process that calls the module's `main` with `arguments`."""
        pairs = socket.socketpair(), socket.socketpair()
        theirs = [pair[1] for pair in pairs]
        socket.send_fds(self._control, [json.dumps(arguments).encode()], [end.fileno() for end in theirs])
        for end in theirs:
            end.close()
        for mine, _ in pairs:
            mine.setblocking(True)
        return Forked(pairs[0][0], pairs[1][0])


@contextmanager
def forking(module: str) -> Iterator[Fork]:
    """Forks from a process that has imported `module`, by its name below tests."""
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with mine, theirs:
        command = [sys.executable, Path(__file__), module, str(theirs.fileno())]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        theirs.close()
        try:
            yield Fork(mine)
        finally:
            mine.close()
            process.wait(SECONDS)


def _serve(module: str, control: socket.socket) -> None:
    """Until the test closes `control`."""
    main = importlib.import_module(module).main
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 65_536, 2)
        if not message:
            return
        if os.fork() == 0:
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os._exit(_keep(main, json.loads(message), *descriptors))
        for descriptor in descriptors:
            os.close(descriptor)


def _keep(main, arguments: list[str], ends: int, status: int) -> int:
    """Forks the process, and says its number and how it ended."""
    pid = os.fork()
    if pid == 0:
        os.close(status)
        os._exit(_run(main, arguments, ends))
    os.close(ends)
    with os.fdopen(status, "w") as stream:
        print(pid, file=stream, flush=True)
        _, how = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(how), file=stream, flush=True)
    return 0


def _run(main, arguments: list[str], ends: int) -> int:
    os.dup2(ends, 0)
    os.dup2(ends, 1)
    os.close(ends)
    sys.stdin, sys.stdout = os.fdopen(0, "r"), os.fdopen(1, "w")
    try:
        main(*arguments)
    except BaseException:
        traceback.print_exc()
        return 1
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])
    _serve(sys.argv[1], socket.socket(fileno=int(sys.argv[2])))
