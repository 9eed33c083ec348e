"""How many requests may run at the same time, adapted to what the server bears.

S3 answers 503 SlowDown to whoever asks too fast, and goes on doing so as long as the same number of
threads goes on asking. So each such answer halves what may be under way, and each stretch of good
answers adds one again: additive increase, multiplicative decrease, as TCP does it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_COOLDOWN = 1.0
_STEPS = 4  # upwards, for each possible one downwards: more of them would undo it at once


class Closed(Exception):
    """Nothing more may start: the program is stopping."""


class ConcurrencyLimiter:
    """AIMD limiter of concurrent requests; safe to share between threads.

    Args:
        max_limit: Concurrent requests, at best and at the beginning.
        cooldown: Seconds in which further calls of `on_throttle` change nothing. The threads that
            were throttled together are one event, and a smaller number needs time to show effect.
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
        """Wait until there is room, and take it for the time of the context.

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
        """The server has answered; as many answers in succession as the limit raise it by one."""
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
