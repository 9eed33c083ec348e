"""The one retry layer between this program and S3.

botocore's own retries are switched off, because two layers multiply each other's attempts, and
because botocore never repeats a request whose body broke off after the headers had arrived. Here
the whole request, body included, is one attempt. Waits are exponential with full jitter, so that
many threads that were throttled together do not come back together.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from botocore.exceptions import (
    ClientError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    ResponseStreamingError,
)
from botocore.parsers import ResponseParserError

Result = TypeVar("Result")

_TRANSIENT_STATUS = frozenset({408, 409, 429, 500, 502, 503, 504})
_TRANSIENT_CODES = frozenset(
    {
        "InternalError",
        "RequestLimitExceeded",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
# Refused or broken connections, timeouts, bodies that end early or do not match their checksum,
# and answers that are not the XML which they should be.
_TRANSIENT_ERRORS = (
    HTTPClientError,
    ResponseStreamingError,
    IncompleteReadError,
    FlexibleChecksumError,
    ResponseParserError,
)


class StillFailing(Exception):
    """Every attempt failed for a reason that usually passes.

    Attributes:
        cause: of the last attempt.
        attempts: how many there were.
    """

    def __init__(self, cause: Exception, attempts: int) -> None:
        super().__init__(f"{type(cause).__name__} after {attempts} attempts")
        self.cause = cause
        self.attempts = attempts


@dataclass(frozen=True)
class RetryPolicy:
    """How often to try and how long to wait.

    Attributes:
        attempts: requests in all. Seven lose one object in 80,000 where every fifth answer is 503;
            three lose one in 125.
        base: seconds; the first wait lies between 0 and this.
        cap: seconds; no wait is longer.
    """

    attempts: int = 7
    base: float = 0.5
    cap: float = 20.0

    def delay(self, failures: int) -> float:
        """Seconds to wait after the given number of failed attempts (1 or more)."""
        # Jitter against stampedes, not a secret: the plain generator will do.
        return random.random() * min(self.cap, self.base * 2.0 ** (failures - 1))


def is_transient(error: Exception) -> bool:
    """Whether the same request may well succeed when sent again."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        code = error.response.get("Error", {}).get("Code")
        return status in _TRANSIENT_STATUS or code in _TRANSIENT_CODES
    return isinstance(error, _TRANSIENT_ERRORS)


def call(
    action: Callable[[], Result], *, policy: RetryPolicy, wait: Callable[[float], bool]
) -> Result:
    """Run ``action`` until it succeeds, fails for good, or has used up its attempts.

    Args:
        action: one whole attempt, with everything that can break in it.
        policy: attempts and waits.
        wait: sleeps for some seconds; returns True when the program is closing and no further
            attempt should be made (`threading.Event.wait` does this).

    Raises:
        StillFailing: all attempts failed in ways that `is_transient`.
        Exception: whatever else ``action`` raises, at once.
    """
    failures = 0
    while True:
        try:
            return action()
        except Exception as error:
            if not is_transient(error):
                raise
            failures += 1
            if failures >= policy.attempts or wait(policy.delay(failures)):
                raise StillFailing(error, failures) from error
