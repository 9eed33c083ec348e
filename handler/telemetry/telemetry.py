"""What a process can tell of its work."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Literal, Protocol

Attributes = Mapping[str, str | int | float | bool]
Kind = Literal["internal", "server", "client"]


class Span(Protocol):
    """A piece of work that is under way.

    Attributes:
        traceparent: Trace context to pass on to other processes; None if there is none.
    """

    traceparent: str | None

    def set(self, name: str, value: str | int | float | bool) -> None:
        """Add an attribute."""


class Telemetry(Protocol):
    """Receives what a process does, as spans and as measurements."""

    def span(
        self,
        name: str,
        *,
        kind: Kind = "internal",
        traceparent: str | None = None,
        attributes: Attributes | None = None,
    ) -> AbstractContextManager[Span]:
        """A span around a ``with`` block; spans that begin inside it are its children.

        Args:
            name: Name of the work; one of few, without values.
            kind: Position of the work between processes.
            traceparent: Trace context of the parent in another process; the surrounding span of
                this thread or task if None.
            attributes: Attributes of the span.
        """

    def record(
        self,
        name: str,
        *,
        seconds: float,
        kind: Kind = "internal",
        traceparent: str | None = None,
        attributes: Attributes | None = None,
    ) -> None:
        """Record a span that ends now.

        Args:
            name: Name of the work.
            seconds: Duration of the work.
            kind: Position of the work between processes.
            traceparent: Trace context of the parent, as for `span`.
            attributes: Attributes of the span.
        """

    def count(self, name: str, number: int, attributes: Attributes | None = None) -> None:
        """Add to a counter."""

    def measure(self, name: str, seconds: float, attributes: Attributes | None = None) -> None:
        """Add a duration to a histogram of seconds."""

    def close(self) -> None:
        """Send what is left; afterwards nothing is recorded."""
