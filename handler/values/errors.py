"""The base of every error that a user can cause and correct."""

from __future__ import annotations


class VeaError(Exception):
    """An error that its reader can act on.

    The message is one line: what was wrong, what was expected, what to do. The command line prints
    it without a traceback and exits with ``exit_code``.

    Attributes:
        exit_code: Exit code of the program: 1, or 2 for wrong usage.
    """

    exit_code = 1


class LocationError(VeaError):
    """A place that this program cannot read from or write to; the message is one line."""

    exit_code = 2


class ArchiveError(VeaError):
    """Not an archive of this format, or a damaged one; the message is one line."""
