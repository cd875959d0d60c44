"""What a terminal sends to every process there, such as Ctrl-C, for the flow alone."""

import ctypes
import os
import signal
from collections.abc import Callable
from contextlib import suppress

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1


def in_a_session_of_its_own(run: Callable[[], int]) -> int:
    """The exit code of `run`, in a process which is interrupted where this one is to end, and whose children end with
    it. Linux only.

    Prefect's temporary server is a child of the flow. If Ctrl-C ended it too, the flow could not report its
    interruption, and Prefect would retry that for minutes.
    """
    parent = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    child = os.fork()
    if not child:
        os.setsid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        return run() if os.getppid() == parent else 1
    for number in _ENDING:
        signal.signal(number, lambda *_: _send(child, signal.SIGINT))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    _, status = os.waitpid(child, 0)
    _send(-child, signal.SIGTERM)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _send(process: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it has ended meanwhile
        os.kill(process, number)
