"""How many images may be fetched at the same time, as the server bears it.

S3 answers 503 SlowDown to whoever asks too fast, and goes on doing so as long as the same number of
threads goes on asking. So each such answer halves what may be under way, and each stretch of good
answers adds one again: additive increase, multiplicative decrease, as TCP does it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_CALM = 1.0
_STEPS = 4  # upwards, for each possible one downwards: more of them would undo it at once


class Closed(Exception):
    """Nothing more may start: the program is stopping."""


class Pace:
    """Hands out turns; safe to share between threads.

    Args:
        most: turns at the same time, at best and at the beginning.
        calm: seconds in which further calls of `slow_down` change nothing. The threads that were
            throttled together are one event, and a smaller number needs time to show effect.
        clock: seconds that never go back.
    """

    def __init__(
        self, most: int, *, calm: float = _CALM, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if most < 1:
            raise ValueError(f"a pace of {most} at the same time: expected at least 1")
        self._most = most
        self._limit = most
        self._under_way = 0
        self._good = 0
        self._calm = calm
        self._clock = clock
        self._slowed = self._raised = float("-inf")
        self._closed = False
        self._changed = threading.Condition()

    @property
    def limit(self) -> int:
        """Turns that may be under way now, from 1 to ``most``."""
        with self._changed:
            return self._limit

    @contextmanager
    def turn(self) -> Iterator[None]:
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

    def slow_down(self) -> None:
        """The server asks for less: halve the limit, unless that has just been done."""
        with self._changed:
            self._good = 0
            now = self._clock()
            if now - self._slowed >= self._calm:
                self._slowed = self._raised = now
                self._limit = max(1, self._limit // 2)

    def went_well(self) -> None:
        """The server has answered; as many answers in succession as the limit raise it by one."""
        with self._changed:
            self._good += 1
            if self._limit == self._most or self._good < self._limit:
                return
            now = self._clock()
            if now - self._raised >= self._calm / _STEPS:
                self._raised = now
                self._limit += 1
                self._good = 0
                self._changed.notify()

    def close(self) -> None:
        """Send away everyone who waits, and whoever comes later."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
