"""Puts the ids of the requests of a batch in front of every line that is logged meanwhile.

A worker answers one batch at a time, so whatever any of its threads logs belongs to that batch.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

HEADER = "x-request-id"
# Ids come from clients, too, and go into lines of a log.
_FORM = re.compile(r"[A-Za-z0-9._-]{1,64}")


def valid_request_id(text: object) -> str | None:
    """The id if it has the form of one; None for anything else."""
    return text if isinstance(text, str) and _FORM.fullmatch(text) else None


def request_id(headers: Mapping[str, Any], own: object) -> str:
    """The id of a request: that of its header ``X-Request-Id``, or the server's own.

    Args:
        headers: Headers of the request, names in any case.
        own: Id that the server gave to the request, if any.
    """
    given = next((value for name, value in headers.items() if name.lower() == HEADER), None)
    return valid_request_id(given) or valid_request_id(own) or "-"


class RequestIds(logging.Filter):
    """Labels lines with the requests that are being answered."""

    def __init__(self) -> None:
        super().__init__()
        self._ids: tuple[str, ...] = ()

    def install(self) -> None:
        """Label the lines of everything that this process has for logging."""
        for output in logging.getLogger().handlers:
            output.addFilter(self)

    @contextmanager
    def answering(self, ids: Sequence[str]) -> Iterator[None]:
        """Label lines for the length of a block.

        Args:
            ids: Ids of the requests of a batch.
        """
        self._ids = tuple(ids)
        try:
            yield
        finally:
            self._ids = ()

    def filter(self, record: logging.LogRecord) -> bool:
        """Label a line, once; every line is kept."""
        if self._ids and not hasattr(record, "request_ids"):
            record.request_ids = self._ids
            record.msg, record.args = f"[{' '.join(self._ids)}] {record.getMessage()}", ()
        return True
