"""When a request is repeated, and when the client gives up.

A busy or absent service is asked until the deadline, because the requests cost it nothing. A
service that failed while it processed the request is asked only a few times, because the request
may be the cause. Delays are exponential with full jitter, so that the clients of a service that
restarts do not all return at the same moment.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


@dataclass(frozen=True)
class RetryPolicy:
    """Limits on the retries of one call.

    Attributes:
        deadline: Seconds allowed for a call, including all tries and delays.
        max_server_errors: Number of tries on which the service may fail while it processes the
            request.
        base_delay: Upper bound of the first delay, in seconds; it doubles with every try.
        max_delay: Upper bound of every delay, in seconds.
        jitter: Function that draws a number from 0 to 1, the fraction of the bound to wait.
    """

    deadline: float = 120.0
    max_server_errors: int = 4
    base_delay: float = 0.1
    max_delay: float = 5.0
    jitter: Callable[[], float] = random.random

    def wait(self, tries: int, requested: float | None = None) -> float:
        """Seconds until the next try.

        Args:
            tries: Number of tries so far, at least 1.
            requested: Minimum delay in seconds that the server requested (``Retry-After``).
        """
        bound = min(self.max_delay, self.base_delay * 2 ** min(tries - 1, 30))
        return self.jitter() * bound + (requested or 0.0)


def retry_after(value: str | None) -> float | None:
    """Seconds in a ``Retry-After`` header (RFC 9110, 10.2.3); None if the value is not valid."""
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
