"""The sans-IO flow: what the shared logic asks its drivers to do, and what they send back.

A flow is a generator that yields a `Step` and is sent a `Reply`. A driver, blocking or
asynchronous, performs the steps; it contains no other logic.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True)
class Request:
    """The step of sending one HTTP request.

    Attributes:
        method: HTTP method.
        url: Complete address.
        timeout: Seconds allowed for connecting, for writing and for reading, each.
        headers: Request headers.
        body: Request body; None to send none.
    """

    method: str
    url: str
    timeout: float
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # a key is among them
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Sleep:
    """The step of waiting.

    Attributes:
        seconds: Duration.
    """

    seconds: float


@dataclass(frozen=True)
class Reply:
    """The outcome of a `Request`.

    Attributes:
        status: HTTP status; 0 if there was no answer.
        headers: Response headers, names in lower case.
        body: Response body.
        failure: Why there was no answer, in one line.
        timed_out: Whether there was no answer because the server exceeded the timeout.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)
    failure: str = ""
    timed_out: bool = False

    def document(self) -> Any:
        """The parsed JSON body; None if the body is not valid JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


Step = Request | Sleep
Flow = Generator[Step, Reply | None, Result]


def send(request: Request) -> Flow[Reply]:
    """Send one request from within a flow, with ``yield from``."""
    reply = yield request
    assert reply is not None
    return reply
