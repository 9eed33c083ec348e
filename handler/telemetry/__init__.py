"""Traces and metrics for OpenTelemetry: off unless the extra is there and a receiver is named.

`start_telemetry` gives the one object that a process tells what it does. With the extra `otel` and
an address in ``OTEL_EXPORTER_OTLP_ENDPOINT`` that object sends spans and metrics there, over HTTP;
otherwise it does nothing, and no package of OpenTelemetry is imported. Trace contexts are passed
from process to process as W3C ``traceparent`` headers in either case.
"""

from handler.telemetry.silent import SilentSpan, SilentTelemetry
from handler.telemetry.start import start_telemetry
from handler.telemetry.telemetry import Attributes, Span, Telemetry
from handler.telemetry.traceparent import current_traceparent, valid_traceparent

__all__ = [
    "Attributes",
    "SilentSpan",
    "SilentTelemetry",
    "Span",
    "Telemetry",
    "current_traceparent",
    "start_telemetry",
    "valid_traceparent",
]
