"""Trace contexts as text: the header ``traceparent`` of the W3C's Trace Context, version 00."""

from __future__ import annotations

import re
import sys

# Version 00 only, whose form is fixed: later versions may append anything.
_FORM = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def valid_traceparent(text: object) -> str | None:
    """The trace context if it has the form of one; None for anything else."""
    return text if isinstance(text, str) and _FORM.fullmatch(text) else None


def current_traceparent() -> str | None:
    """The trace context of the span that surrounds this call, in a program that has such spans.

    A program that uses OpenTelemetry has imported it; nothing is imported here.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    return traceparent_of(trace.get_current_span())


def traceparent_of(span: object) -> str | None:
    """The trace context of an OpenTelemetry span; None if the span is of no trace."""
    context = span.get_span_context()  # type: ignore[attr-defined]
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
