"""Ctrl-C on a terminal, which reaches every process there, for the flow alone."""

import ctypes
import os
import signal
from collections.abc import Callable

_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1


def apart(run: Callable[[], int]) -> int:
    """The exit code of `run`, in a session of its own, which ends with this process and gets the signals that this
    process gets.

    Prefect's temporary server is a child of the flow. Interrupted together with it, it would be gone when the flow says
    that it was interrupted, which Prefect then tries for minutes.
    """
    child = os.fork()
    if not child:
        os.setsid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        return run()
    for number in _FORWARDED:
        signal.signal(number, lambda number, _: os.kill(child, number))
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
