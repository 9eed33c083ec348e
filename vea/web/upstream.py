"""The gateway's one way to TorchServe: it alone holds the keys.

A request goes out with a content type, perhaps the wish to be explained, its id and trace, and the
key; nothing else that a client sent beside its image goes with it. What TorchServe's answers mean,
and which requests are worth sending again, the gateway knows from the Python client
(`handler.client`); what it does not share is where the server is, which it looks up anew when it is
gone, and what it tells a client.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import httpx2

from handler.client import connections
from handler.client.exchange import is_key_error, is_server_error, is_transient, kind_of
from handler.client.flow import Reply, Request
from handler.client.keys import Purpose
from handler.client.retry import RetryPolicy, retry_after
from vea.serving.errors import ServingError
from vea.serving.ports import HOST
from vea.serving.server import TorchServe
from vea.web.bodies import Body
from vea.web.errors import GatewayError, busy
from vea.web.request_context import forwarded_headers

# An image on which three workers died will kill the fourth. The deadline is each request's own.
_RETRIES = RetryPolicy(max_server_errors=3, max_delay=2.0)
_PROBLEMS = {  # by TorchServe's status, 0 where it gave no answer: ours, and what we say
    0: (502, "the server of the models cannot be reached"),
    404: (404, "there is no such model, or no such version of it; see /models"),
    413: (413, "the body is larger than the model takes"),
    500: (502, "the model's worker died on this request"),
}


@dataclass(frozen=True)
class Answer:
    """What a model said: a prediction, or a refusal of its own with its reason."""

    status: int
    content: bytes


class Upstream(Protocol):
    """A server of models; TorchServe's place is here."""

    async def predict(self, path: str, body: Body, *, explain: bool, seconds: float) -> Answer:
        """Request a model.

        Args:
            path: Path of the model.
            body: One image, or a JSON document.
            explain: Whether the answer includes explanations.
            seconds: Timeout of all attempts together, in seconds.

        Raises:
            GatewayError: There was no answer.
        """
        ...

    async def manage(self, path: str, *, seconds: float) -> tuple[int, Any]:
        """Look something up about models: status and document.

        Raises:
            GatewayError: There was no answer.
        """
        ...

    async def metrics(self, *, seconds: float) -> bytes:
        """Its own metrics in Prometheus' text format; nothing if it gives none in time."""
        ...


class TorchServeUpstream:
    """The TorchServe that runs in a folder, and any that runs there later.

    Args:
        find: Returns the running server, or None.
        max_connections: Maximum number of simultaneous connections.
    """

    def __init__(self, find: Callable[[], TorchServe | None], *, max_connections: int = 64) -> None:
        self._find = find
        self._server: TorchServe | None = None
        self._finding = asyncio.Lock()
        self._http = httpx2.AsyncClient(**connections.client_kwargs(max_connections))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def predict(self, path: str, body: Body, *, explain: bool, seconds: float) -> Answer:
        """See `Upstream.predict`."""
        until = time.monotonic() + seconds
        headers = {"Content-Type": body.content_type, **forwarded_headers()}
        if explain:
            headers["X-Explain"] = "true"
        tries = server_errors = 0
        while True:
            reply = await self._send("POST", path, "inference", until, headers, body.content)
            if _is_of_the_model(reply):
                return Answer(reply.status, reply.body)
            if reply.timed_out:
                raise _too_late(seconds)
            # A server that has just been started anew has new keys; they are read each time.
            if not (is_transient(reply) or is_key_error(reply)):
                raise _problem(reply)
            tries += 1
            server_errors += is_server_error(reply)
            wait = _RETRIES.wait(tries, retry_after(reply.headers.get("retry-after")))
            if server_errors == _RETRIES.max_server_errors or time.monotonic() + wait > until:
                raise _problem(reply)
            await asyncio.sleep(wait)

    async def manage(self, path: str, *, seconds: float) -> tuple[int, Any]:
        """See `Upstream.manage`; only ever GET."""
        reply = await self._send("GET", path, "management", time.monotonic() + seconds)
        if reply.timed_out:
            raise _too_late(seconds)
        document = reply.document()
        if document is None:
            raise _problem(reply) if reply.status == 0 else _nonsense(reply)
        return reply.status, document

    async def metrics(self, *, seconds: float) -> bytes:
        """See `Upstream.metrics`."""
        try:
            server = await self._running()
            request = Request("GET", f"http://{HOST}:{server.ports.metrics}/metrics", seconds)
            async with asyncio.timeout(seconds):
                response = await self._http.request(**connections.request_kwargs(request))
        except (TimeoutError, httpx2.TransportError, ServingError, OSError):
            return b""
        is_text = response.headers.get("content-type", "").startswith("text/plain")
        return response.content if response.status_code == 200 and is_text else b""

    async def _send(
        self,
        method: str,
        path: str,
        service: Purpose,
        until: float,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Reply:
        try:
            server = await self._running()
            ports = server.ports
            port = ports.inference if service == "inference" else ports.management
            # Reads a file, and asks for a new key shortly before the old one expires.
            token = await asyncio.to_thread(server.client.token, service)
        except (httpx2.TransportError, ServingError, OSError) as error:
            self._server = None
            return Reply(0, failure=str(error))
        left = max(until - time.monotonic(), 0.01)
        keyed = {**(headers or {}), "Authorization": f"Bearer {token}"}
        request = Request(method, f"http://{HOST}:{port}{path}", left, keyed, body)
        try:
            # httpx2 counts its timeouts anew with every piece it reads.
            async with asyncio.timeout(left):
                response = await self._http.request(**connections.request_kwargs(request))
            return connections.reply_of(response)
        except (TimeoutError, httpx2.TimeoutException):
            return Reply(0, failure="the server of the models is slow", timed_out=True)
        except httpx2.TransportError as error:
            self._server = None
            return connections.failure_of(error)

    async def _running(self) -> TorchServe:
        async with self._finding:
            if self._server is None:
                self._server = await asyncio.to_thread(self._find)
            if self._server is None:
                raise ServingError("no server of models runs")
            return self._server


def _is_of_the_model(reply: Reply) -> bool:
    """Whether the model itself speaks: a prediction, or a refusal with its reason."""
    document = reply.document()
    if document is None or kind_of(reply) is not None:
        return False
    return reply.status < 500 or "error" in document


def _problem(reply: Reply) -> GatewayError:
    """What to say to a client where no model answered."""
    if is_key_error(reply):
        return GatewayError(502, "the server of the models refused the gateway's key")
    if reply.status in (503, 507):
        return busy("the model is busy; try again in a moment")
    if reply.status in _PROBLEMS:
        return GatewayError(*_PROBLEMS[reply.status])
    return _nonsense(reply)


def _nonsense(reply: Reply) -> GatewayError:
    return GatewayError(502, f"the server of the models gave no sensible answer ({reply.status})")


def _too_late(seconds: float) -> GatewayError:
    return GatewayError(504, f"the model gave no answer within {seconds:.0f} seconds")
