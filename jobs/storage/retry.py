"""The one retry layer between this program and everything that it reads from a network.

The retries of botocore, obstore and urllib3 are switched off, because two layers multiply each
other's attempts, and because botocore never repeats a request whose body broke off after the
headers had arrived. Here the whole request, body included, is one attempt. Waits are exponential
with full jitter, so that many threads that were throttled together do not come back together.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from botocore.exceptions import (
    ClientError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    ResponseStreamingError,
)
from botocore.exceptions import (
    ConnectionError as NoConnection,
)
from botocore.parsers import ResponseParserError

from jobs.storage.rate_limit import Closed, ConcurrencyLimiter
from jobs.values.job import RetrySettings

Result = TypeVar("Result")

_TRANSIENT_STATUS = frozenset({408, 409, 429, 500, 502, 503, 504})
_THROTTLED_STATUS = frozenset({429, 503})
_THROTTLED_CODES = frozenset(
    {
        "RequestLimitExceeded",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_TRANSIENT_CODES = _THROTTLED_CODES | {"InternalError", "RequestTimeout", "ServiceUnavailable"}
# Refused or broken connections, timeouts, bodies that end early or do not match their checksum,
# and answers that are not valid XML.
_TRANSIENT_ERRORS = (
    NoConnection,
    HTTPClientError,
    ResponseStreamingError,
    IncompleteReadError,
    FlexibleChecksumError,
    ResponseParserError,
)


class TransientError(Exception):
    """A failure outside botocore that is usually temporary; the message is one line for people.

    Attributes:
        throttled: Whether the server asks for fewer requests.
    """

    def __init__(self, reason: str, *, throttled: bool = False) -> None:
        super().__init__(reason)
        self.throttled = throttled


class RetriesExhausted(Exception):
    """Every attempt failed with a transient error.

    Attributes:
        cause: Exception of the last attempt.
        attempts: Number of attempts.
    """

    def __init__(self, cause: Exception, attempts: int) -> None:
        super().__init__(f"{type(cause).__name__} after {attempts} attempts")
        self.cause = cause
        self.attempts = attempts


def is_transient_status(status: int | None) -> bool:
    """Whether the same request may succeed later after an answer with this HTTP status."""
    return status in _TRANSIENT_STATUS


def is_throttling_status(status: int | None) -> bool:
    """Whether an HTTP answer with this status asks for fewer requests."""
    return status in _THROTTLED_STATUS


def is_transient(error: Exception) -> bool:
    """Whether the same request may succeed when it is sent again."""
    if isinstance(error, ClientError):
        return is_transient_status(_status_of(error)) or _code_of(error) in _TRANSIENT_CODES
    return isinstance(error, (*_TRANSIENT_ERRORS, TransientError))


def is_throttled(error: Exception) -> bool:
    """Whether the server asks for fewer requests."""
    if isinstance(error, ClientError):
        return is_throttling_status(_status_of(error)) or _code_of(error) in _THROTTLED_CODES
    return isinstance(error, TransientError) and error.throttled


class Retries:
    """Retries of requests, for all threads that share a connection pool.

    Args:
        settings: Attempts and waits of requests.
        threads: Number of threads that send paced requests at the same time, as long as no server
            objects.
    """

    def __init__(self, settings: RetrySettings, *, threads: int) -> None:
        self._settings = settings
        self._limiter = ConcurrencyLimiter(threads)
        self._closing = threading.Event()

    def close(self) -> None:
        """End all waits: no request gets a further attempt, no paced one a first."""
        self._closing.set()
        self._limiter.close()

    def is_closing(self) -> bool:
        """Whether `close` was called."""
        return self._closing.is_set()

    def run(self, action: Callable[[], Result], *, paced: bool = False) -> Result:
        """Run ``action`` until it succeeds, fails for good, or has used up its attempts.

        Args:
            action: Function that makes one whole attempt, with everything that can fail in it.
            paced: Whether it belongs to the many requests that slow down when a server asks for it.
                No thread holds a turn while it waits for the next attempt.

        Raises:
            RetriesExhausted: All attempts failed in ways that `is_transient`.
            Closed: `close` was called, and the request has not succeeded by then.
            Exception: Any other exception of ``action``, at once.
        """
        failures = 0
        while True:
            try:
                return self._paced(action) if paced else action()
            except Exception as error:
                if not is_transient(error):
                    raise
                failures += 1
                if failures >= self._settings.attempts:
                    raise RetriesExhausted(error, failures) from error
                if self._closing.wait(self._settings.delay(failures)):
                    raise Closed from error

    def _paced(self, action: Callable[[], Result]) -> Result:
        with self._limiter.acquire():
            try:
                result = action()
            except Exception as error:
                if is_throttled(error):
                    self._limiter.on_throttle()
                elif not is_transient(error):
                    # A refusal is an answer too: a list of missing images must not stay slow.
                    self._limiter.on_success()
                raise
            self._limiter.on_success()
            return result


def _status_of(error: ClientError) -> int | None:
    status: int | None = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status


def _code_of(error: ClientError) -> str | None:
    code: str | None = error.response.get("Error", {}).get("Code")
    return code
