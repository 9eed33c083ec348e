"""Ctrl-C and SIGTERM: a job that is asked to stop finishes the chunks under way.

While an engine runs, the first signal asks it to begin no more chunks; those that are being scored
have a grace period. A second signal ends the grace period. At any other time a signal interrupts
the program where it is, as Ctrl-C does everywhere in Python.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

DEFAULT_GRACE = 20.0
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """The program has to end now; like Ctrl-C, it is not caught by `except Exception`."""


class StopRequest:
    """Whether the job has to stop, and how much time is left.

    Its file descriptor becomes readable whenever a signal arrives, so that code that waits for
    other things can wait for it too.

    Args:
        grace: Seconds that chunks under way have to end; no time is left after a second signal.
    """

    def __init__(self, grace: float = DEFAULT_GRACE) -> None:
        self.signal: int | None = None
        self._grace = grace
        self._deadline: float | None = None
        self._graceful = False
        self._read_fd, self._write_fd = os.pipe()
        os.set_blocking(self._read_fd, False)

    def close(self) -> None:
        """Close the file descriptors."""
        os.close(self._read_fd)
        os.close(self._write_fd)

    @contextmanager
    def listen(self) -> Iterator[StopRequest]:
        """Handle the signals in the context.

        Python handles signals in the main thread only; in any other this changes nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.signal(number, self._note) for number in SIGNALS}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def graceful(self) -> Iterator[None]:
        """In this context signals set the request; outside they raise `Interrupted` at once."""
        self._graceful = True
        try:
            yield
        finally:
            self._graceful = False

    def request(self, number: int = signal.SIGTERM) -> None:
        """Request the end, as a signal does; a second request ends the grace period."""
        if self.signal is None:
            self.signal = number
            self._deadline = time.monotonic() + self._grace
        else:
            self._deadline = -math.inf
        os.write(self._write_fd, b"!")

    def is_set(self) -> bool:
        """Whether no more work should be begun."""
        return self._deadline is not None

    def seconds_left(self) -> float | None:
        """Seconds left for chunks under way, at least 0; None without a request."""
        if self._deadline is None:
            return None
        return max(0.0, self._deadline - time.monotonic())

    def fileno(self) -> int:
        """File descriptor that is readable if a signal arrived since `drain`."""
        return self._read_fd

    def drain(self) -> None:
        """Make the file descriptor unreadable until the next signal."""
        try:
            while os.read(self._read_fd, 64):
                pass
        except BlockingIOError:
            pass

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.request(number)
        if not self._graceful:
            raise Interrupted
