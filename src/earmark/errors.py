"""The errors that a user, a network or a disk can cause, as one tree.

    UserError                     a mistake that the user can mend
    ├── TrainingError             settings with which nothing can be trained
    └── ServiceUnavailableError   another system does not answer
        └── NetworkError          a remote of git or DVC cannot be reached: trying again may help

Errors that a caller in earmark handles, and no user sees, are defined where they are raised: for example
audio.decode.DecodeError, dataset.sources.s3_errors.ChangedObjectError, models.serving.InvalidClipError.
"""


class UserError(Exception):
    """A mistake that the user can mend. Its text is one sentence: what, which value, what is expected.

    The command line prints the sentence without a traceback and exits with `exit_code`.
    """

    exit_code = 2


class TrainingError(UserError):
    """These settings can never be trained, however often it is tried."""


class ServiceUnavailableError(UserError):
    """Another system does not answer, or fails by itself. This says nothing about what was asked for."""


class NetworkError(ServiceUnavailableError):
    """A remote of git or DVC cannot be reached now. The flow tries again."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h
