"""What the shared logic asks its drivers to do, and what it gets back.

The logic is generators that yield a `Step` and are sent a `Reply`; a driver (blocking or
asynchronous) carries the steps out and knows nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True)
class Ask:
    """Send one request.

    Attributes:
        timeout: seconds for each of connecting, writing and reading.
    """

    method: str
    url: str
    timeout: float
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # a key is among them
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Pause:
    """Wait for some seconds."""

    seconds: float


@dataclass(frozen=True)
class Reply:
    """What came of an `Ask`.

    Attributes:
        status: of the HTTP answer; 0 if there was none.
        headers: with names in lower case.
        body: of the answer.
        failure: why there was no answer, one line.
        timed_out: no answer because the server took too long to give it.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)
    failure: str = ""
    timed_out: bool = False

    def document(self) -> Any:
        """The JSON in the body; None if it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


Step = Ask | Pause
Steps = Generator[Step, Reply | None, Result]


def send(ask: Ask) -> Steps[Reply]:
    """One request, in a generator that calls this with ``yield from``."""
    reply = yield ask
    assert reply is not None
    return reply
