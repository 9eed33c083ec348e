"""The id and the trace of each request: in the gateway's log, in its answer, and to TorchServe.

A client may send both, as ``X-Request-Id`` and ``traceparent``; what has not their form is
replaced. They are all that goes to TorchServe of a client's headers beside the type of its image.
"""

from __future__ import annotations

import logging
import secrets
import time
from contextvars import ContextVar
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from handler.serving.log_lines import HEADER, valid_request_id
from handler.telemetry import SilentTelemetry, Telemetry

_PROBES = ("/healthz", "/readyz")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
_current: ContextVar[RequestContext | None] = ContextVar("request", default=None)


@dataclass(frozen=True)
class RequestContext:
    """What identifies a request.

    Attributes:
        request_id: Identifier of the request.
        traceparent: Trace context of the gateway's work on it; None without a trace.
    """

    request_id: str
    traceparent: str | None


def forwarded_headers() -> dict[str, str]:
    """The headers with which the current request goes on to TorchServe; none outside a request."""
    context = _current.get()
    if context is None:
        return {}
    trace = {} if context.traceparent is None else {"traceparent": context.traceparent}
    return {"X-Request-Id": context.request_id, **trace}


class RequestIdFilter(logging.Filter):
    """Gives every log record the attribute ``request_id``, ``-`` outside a request."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the attribute; every record is kept."""
        context = _current.get()
        record.request_id = "-" if context is None else context.request_id
        return True


class RequestContextMiddleware:
    """ASGI middleware: an id and a span for each request; probes get an id only.

    Args:
        app: Application that handles the requests.
        telemetry: Receives the spans.
    """

    def __init__(self, app: ASGIApp, *, telemetry: Telemetry) -> None:
        self.app = app
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = valid_request_id(headers.get(HEADER)) or secrets.token_hex(8)
        status = 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        telemetry = SilentTelemetry() if scope["path"] in _PROBES else self._telemetry
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        begun = time.perf_counter()
        with telemetry.span(
            method,
            kind="server",
            traceparent=headers.get("traceparent"),
            attributes={"http.request.method": method, "vea.request_id": request_id},
        ) as span:
            token = _current.set(RequestContext(request_id, span.traceparent))
            try:
                await self.app(scope, receive, answer)
            finally:
                _current.reset(token)
                # Of a path that leads nowhere nothing is told: it is a client's text.
                route = f"/{scope['path'].split('/')[1]}" if "endpoint" in scope else "other"
                about: dict[str, str | int | float | bool] = {
                    "http.route": route,
                    "http.response.status_code": status,
                }
                for name, value in about.items():
                    span.set(name, value)
        telemetry.measure(
            "http.server.request.duration",
            time.perf_counter() - begun,
            {"http.request.method": method, **about},
        )
