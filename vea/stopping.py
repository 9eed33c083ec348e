"""The end of a command by a signal: told in one line, with an exit code that is no success.

Libraries have their own ideas: Lightning takes SIGTERM for the end of a training that went well and
Ctrl-C for an error. Here both interrupt the command where it is, as an exception that nobody else
catches.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """The command is to end now.

    Args:
        number: Number of the signal.
        advice: Advice on how to go on, in a few words.
    """

    def __init__(self, number: int, advice: str) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}: {advice}")
        self.exit_code = 128 + number


@contextmanager
def stoppable(advice: str) -> Iterator[None]:
    """In this context Ctrl-C and SIGTERM raise `Stopped`; also a decorator of commands.

    A second signal has its usual effect, so that an end that takes long can be cut short. Python
    knows signals in the main thread only; in any other this changes nothing.

    Args:
        advice: Advice on how to go on, in a few words.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    process = os.getpid()
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def restore() -> None:
        for number, action in before.items():
            if action is not None:  # None: it was not set from Python
                signal.signal(number, action)

    def stop(number: int, frame: FrameType | None) -> None:
        restore()
        if os.getpid() != process:  # a forked process ends as if nobody had listened
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        raise Stopped(number, advice)

    for number in _SIGNALS:
        signal.signal(number, stop)
    try:
        yield
    finally:
        restore()
