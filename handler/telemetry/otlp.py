"""Sends spans and metrics to a receiver of OpenTelemetry's protocol, over HTTP.

Addresses, headers, time limits and sampling are those of the standard variables (``OTEL_...``).
Sending happens in threads of its own; a receiver that is away costs the work nothing.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import handler
from handler.telemetry.telemetry import Attributes, Kind
from handler.telemetry.traceparent import traceparent_of, valid_traceparent

_CLOSE_SECONDS = 5  # a receiver that is away must not hold up the end of a program
_KINDS = {
    "internal": trace.SpanKind.INTERNAL,
    "server": trace.SpanKind.SERVER,
    "client": trace.SpanKind.CLIENT,
}


class OtlpSpan:
    """A `Span` of OpenTelemetry.

    Args:
        span: Span of the SDK.
    """

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self.traceparent = traceparent_of(span)

    def set(self, name: str, value: str | int | float | bool) -> None:
        """As `Span.set`."""
        self._span.set_attribute(name, value)


class OtlpTelemetry:
    """A `Telemetry` that sends.

    Args:
        service: Name of the service.
    """

    def __init__(self, service: str) -> None:
        # Its own lines about a receiver that is away would fill the log of the work.
        logging.getLogger("opentelemetry").setLevel(logging.ERROR)
        resource = Resource.create(
            {"service.name": service, "service.version": handler.__version__}
        )
        self._traces = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=_timeout())))
        reader = PeriodicExportingMetricReader(OTLPMetricExporter(timeout=_timeout()))
        self._metrics = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
        self._tracer = self._traces.get_tracer("vea", handler.__version__)
        self._meter = self._metrics.get_meter("vea", handler.__version__)
        self._instruments: dict[str, Any] = {}
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def span(
        self,
        name: str,
        *,
        kind: Kind = "internal",
        traceparent: str | None = None,
        attributes: Attributes | None = None,
    ) -> Iterator[OtlpSpan]:
        """As `Telemetry.span`."""
        with self._tracer.start_as_current_span(
            name,
            context=self._parent(traceparent),
            kind=_KINDS[kind],
            attributes=dict(attributes or {}),
        ) as span:
            yield OtlpSpan(span)

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
        end = time.time_ns()
        span = self._tracer.start_span(
            name,
            context=self._parent(traceparent),
            kind=_KINDS[kind],
            attributes=dict(attributes or {}),
            start_time=end - round(seconds * 1e9),
        )
        span.end(end)

    def count(self, name: str, number: int, attributes: Attributes | None = None) -> None:
        """As `Telemetry.count`."""
        if name not in self._instruments:
            self._instruments[name] = self._meter.create_counter(name)
        self._instruments[name].add(number, dict(attributes or {}))

    def measure(self, name: str, seconds: float, attributes: Attributes | None = None) -> None:
        """As `Telemetry.measure`."""
        if name not in self._instruments:
            self._instruments[name] = self._meter.create_histogram(name, unit="s")
        self._instruments[name].record(seconds, dict(attributes or {}))

    def close(self) -> None:
        """As `Telemetry.close`."""
        self._traces.shutdown()
        self._metrics.shutdown(timeout_millis=_CLOSE_SECONDS * 1000)

    def _parent(self, traceparent: str | None) -> Any:
        checked = valid_traceparent(traceparent)
        return self._propagator.extract({"traceparent": checked}) if checked else None


def _timeout() -> float:
    """Seconds for one delivery with its retries, unless the environment says otherwise."""
    given = os.environ.get("OTEL_EXPORTER_OTLP_TIMEOUT", "")
    try:
        return float(given)
    except ValueError:
        return _CLOSE_SECONDS
