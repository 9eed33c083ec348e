"""When a request is sent again, and when no more.

A busy or absent service is asked until the time is up: waiting costs it nothing. A service that
broke down while it had our request is asked a few times only, for the request may be the cause.
Waits are drawn between zero and a limit that doubles ("full jitter"), so that the clients of a
service that comes back do not all arrive in one moment.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


@dataclass(frozen=True)
class RetryPolicy:
    """How patient a client is.

    Attributes:
        deadline: seconds for a whole call, waits and all tries included.
        breakdowns: how often the service may break down on one request.
        first: seconds, the longest first wait.
        longest: seconds, the longest wait of all.
        draw: a number from 0 to 1 each time.
    """

    deadline: float = 120.0
    breakdowns: int = 4
    first: float = 0.1
    longest: float = 5.0
    draw: Callable[[], float] = random.random

    def wait(self, tries: int, asked: float | None = None) -> float:
        """Seconds until the next try.

        Args:
            tries: made so far, at least 1.
            asked: seconds that the server asked for (``Retry-After``); never less than these.
        """
        limit = min(self.longest, self.first * 2 ** min(tries - 1, 30))
        return self.draw() * limit + (asked or 0.0)


def retry_after(value: str | None) -> float | None:
    """Seconds that a header ``Retry-After`` (RFC 9110, 10.2.3) asks for; None if it is not one."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
