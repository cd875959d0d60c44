"""Handles signals that a terminal sends to all its processes, such as Ctrl-C, in the flow alone."""

import ctypes
import os
import signal
from collections.abc import Callable
from contextlib import suppress

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1


def run_in_own_session(run: Callable[[], int]) -> int:
    """Calls `run` in a child process with a session of its own, and returns its exit code. Linux only.

    Signals that would end this process interrupt the child instead; what the child has started ends after it. Prefect's
    temporary server is a child of the flow: if Ctrl-C ended it too, the flow could not report its interruption, and
    Prefect would retry that for minutes.
    """
    parent = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    child = os.fork()
    if not child:
        os.setsid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
        # A shell starts what it runs in the background with SIGINT ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        return run() if os.getppid() == parent else 1
    for number in _SIGNALS:
        signal.signal(number, lambda *_: _send(child, signal.SIGINT))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    _, status = os.waitpid(child, 0)
    _send(-child, signal.SIGTERM)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _send(process: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it has ended already
        os.kill(process, number)
