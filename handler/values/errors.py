"""The base of every error that a user can cause and correct."""

from __future__ import annotations


class VeaError(Exception):
    """An error that its reader can act on.

    The message is one line: what was wrong, what was expected, what to do. The command line prints
    it without a traceback and exits with 1.
    """


class ArchiveError(VeaError):
    """Not an archive of this format, or a damaged one; the message is one line."""
