"""The telemetry of a process that nobody listens to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from handler.telemetry.telemetry import Attributes, Kind
from handler.telemetry.traceparent import valid_traceparent


@dataclass
class SilentSpan:
    """A span that is not recorded; it passes on the trace context of its parent.

    Attributes:
        traceparent: Trace context of the parent; None if there is none.
    """

    traceparent: str | None = None

    def set(self, name: str, value: str | int | float | bool) -> None:
        """As `Span.set`: nothing happens."""


class SilentTelemetry:
    """Records nothing; a `Telemetry`."""

    @contextmanager
    def span(
        self,
        name: str,
        *,
        kind: Kind = "internal",
        traceparent: str | None = None,
        attributes: Attributes | None = None,
    ) -> Iterator[SilentSpan]:
        """As `Telemetry.span`."""
        yield SilentSpan(valid_traceparent(traceparent))

    def record(
        self,
        name: str,
        *,
        seconds: float,
        kind: Kind = "internal",
        traceparent: str | None = None,
        attributes: Attributes | None = None,
    ) -> None:
        """As `Telemetry.record`."""

    def count(self, name: str, number: int, attributes: Attributes | None = None) -> None:
        """As `Telemetry.count`."""

    def measure(self, name: str, seconds: float, attributes: Attributes | None = None) -> None:
        """As `Telemetry.measure`."""

    def close(self) -> None:
        """As `Telemetry.close`."""
