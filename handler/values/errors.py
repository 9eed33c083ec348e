"""The base of every error that a user can cause and mend."""


class VeaError(Exception):
    """The message is one line: what was wrong, what was expected, what to do.

    The command line prints it without a traceback and exits with 1.
    """
