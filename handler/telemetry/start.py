"""Decides whether a process sends telemetry."""

from __future__ import annotations

import importlib.util
import os

from handler.telemetry.silent import SilentTelemetry
from handler.telemetry.telemetry import Telemetry

_ADDRESSES = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
)


def start_telemetry(service: str) -> Telemetry:
    """The telemetry of this process, as the variables of OpenTelemetry's SDKs configure it.

    It is silent unless a receiver is named, ``OTEL_SDK_DISABLED`` is not true and the extra `otel`
    is installed.

    Args:
        service: Name of the service; ``OTEL_SERVICE_NAME`` has precedence.
    """
    wanted = any(os.environ.get(name) for name in _ADDRESSES)
    if not wanted or os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return SilentTelemetry()
    try:
        installed = importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        installed = False
    if not installed:
        return SilentTelemetry()
    # Packages of the extra, which take a third of a second to import.
    from handler.telemetry.otlp import OtlpTelemetry  # noqa: PLC0415

    return OtlpTelemetry(os.environ.get("OTEL_SERVICE_NAME") or service)
