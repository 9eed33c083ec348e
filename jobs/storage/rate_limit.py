"""A limit on concurrent requests that adapts to the server.

S3 answers 503 SlowDown to a client that sends too many requests, as long as the same number of
threads sends them. So each such answer halves the limit, and each series of good answers raises it
by one: additive increase, multiplicative decrease (AIMD), as in TCP.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_COOLDOWN = 1.0
_STEPS = 4  # steps up in the time of one step down; more would undo the step down at once


class Closed(Exception):
    """Nothing more may start: the program is stopping."""


class ConcurrencyLimiter:
    """AIMD limiter of concurrent requests; safe to share between threads.

    Args:
        max_limit: Maximum number of concurrent requests, and the limit at the beginning.
        cooldown: Seconds after a call of `on_throttle` in which further calls change nothing. The
            threads that were throttled together are one event, and a new limit takes effect late.
        clock: Monotonic clock, in seconds.
    """

    def __init__(
        self,
        max_limit: int,
        *,
        cooldown: float = _COOLDOWN,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if max_limit < 1:
            raise ValueError(f"a limiter of {max_limit} at the same time: expected at least 1")
        self._max_limit = max_limit
        self._limit = max_limit
        self._under_way = 0
        self._good = 0
        self._cooldown = cooldown
        self._clock = clock
        self._slowed = self._raised = float("-inf")
        self._closed = False
        self._changed = threading.Condition()

    @property
    def limit(self) -> int:
        """Requests that may run now, from 1 to ``max_limit``."""
        with self._changed:
            return self._limit

    @contextmanager
    def acquire(self) -> Iterator[None]:
        """Wait until a request may run; it counts as running in the context.

        Raises:
            Closed: `close` was called, before or meanwhile.
        """
        with self._changed:
            while not self._closed and self._under_way >= self._limit:
                self._changed.wait()
            if self._closed:
                raise Closed
            self._under_way += 1
        try:
            yield
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify()

    def on_throttle(self) -> None:
        """The server throttles: halve the limit, unless that has just been done."""
        with self._changed:
            self._good = 0
            now = self._clock()
            if now - self._slowed >= self._cooldown:
                self._slowed = self._raised = now
                self._limit = max(1, self._limit // 2)

    def on_success(self) -> None:
        """The server has answered; the limit rises by one after as many answers in succession."""
        with self._changed:
            self._good += 1
            if self._limit == self._max_limit or self._good < self._limit:
                return
            now = self._clock()
            if now - self._raised >= self._cooldown / _STEPS:
                self._raised = now
                self._limit += 1
                self._good = 0
                self._changed.notify()

    def close(self) -> None:
        """Close the limiter: pending and later calls of `acquire` raise `Closed`."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
