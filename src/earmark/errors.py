"""The exceptions that mean: the user can mend this."""


class UserError(Exception):
    """A mistake that the user can mend; its text is one sentence with what, where, and what is allowed.

    The command line prints the sentence without a traceback and exits with code 2.
    """


class Untrainable(UserError):
    """Settings with which nothing can be trained, however often it is tried."""


class NotAnswering(UserError):
    """Another system does not answer, or with a fault of its own, which says nothing of what was asked for."""
