"""The error of all commands that start, ask or change a server."""

from __future__ import annotations

from handler.values.errors import VeaError


class ServingError(VeaError):
    """Serving failed in a way that the user can correct; the message says how."""
