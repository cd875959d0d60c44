"""Ends a process, and what it has started, when its caller has ended: `python -m earmark.io.caller <command …>`.

The caller holds a pipe open as standard input. When the caller dies, even by SIGKILL, the pipe closes, and the whole
session ends.
"""

import os
import signal
import subprocess
import sys
import threading


def end_with_caller() -> None:
    """Watches standard input from now on. Call it in a process that leads a session of its own."""
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    os.read(0, 1)  # sys.stdin has a lock, which would stop the interpreter from ending
    os.killpg(0, signal.SIGTERM)


def main() -> int:
    """Runs the command; returns its exit code, 128 + n if signal n killed it."""
    end_with_caller()
    code = subprocess.call(sys.argv[1:], stdin=subprocess.DEVNULL)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
