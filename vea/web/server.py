"""uvicorn for the gateway, with what it lacks against slow and broken clients."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10  # for a request's head, and for a connection to say anything at all
_CONNECTIONS = 512
_HEAD_BYTES = 16 * 1024


_END_OF_HEAD = re.compile(rb"\n\r?\n")  # as h11 finds it


class Protocol(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, with a timeout for a request's head and strict lengths.

    h11 refuses most of what a proxy before the gateway could read in another way. It accepts two
    equal lengths and a length beside chunks (RFC 9112, section 6.3, allows either answer), which
    are refused here.
    """

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there; its request has to come."""
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """A piece of a request."""
        super().data_received(data)
        if self._between_requests():
            self._expect_head()
        else:
            self._no_longer()

    def handle_events(self) -> None:
        """What has arrived is read, unless it is a head whose body could end in two places."""
        if self.conn.their_state is h11.IDLE and _is_ambiguous(self.conn.trailing_data[0]):
            self.send_400_response("")
            return
        super().handle_events()

    def on_response_complete(self) -> None:
        """The next head may be in the buffer already, in part."""
        super().on_response_complete()
        if not self.transport.is_closing() and self._between_requests():
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._no_longer()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP gets the form of every other error."""
        reason = {"error": {"code": 400, "reason": "this is not a valid HTTP/1.1 request"}}
        body = json.dumps(reason).encode()
        head = (
            "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def _between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _expect_head(self) -> None:
        if self._waiting is None:
            self._waiting = self.loop.call_later(self.timeout_keep_alive, self._give_up)

    def _no_longer(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _give_up(self) -> None:
        self._waiting = None
        if not self.transport.is_closing():
            self.transport.abort()


def _is_ambiguous(received: bytes) -> bool:
    """Whether the head at the start of ``received`` gives the length of its body twice."""
    end = _END_OF_HEAD.search(received)
    if end is None:
        return False
    names = [line.partition(b":")[0].lower() for line in received[: end.start()].split(b"\n")[1:]]
    lengths = names.count(b"content-length")
    return lengths > 1 or (lengths == 1 and b"transfer-encoding" in names)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 is any free one.

    Raises:
        OSError: The address is in use, or does not belong to this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=_CONNECTIONS)


def serve(app: ASGIApp, listener: socket.socket, *, log_config: dict[str, Any] | None) -> None:
    """Answer until a signal ends it."""
    server(app, log_config=log_config).run(sockets=[listener])


def server(
    app: ASGIApp, *, log_config: dict[str, Any] | None = None, head_seconds: int = HEAD_SECONDS
) -> uvicorn.Server:
    """A server that does not run yet.

    Args:
        app: Application that answers.
        log_config: Configuration of logging; None leaves it as it is.
        head_seconds: Seconds that a connection has for the head of its next request.
    """
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="on",
        # What a proxy says about a client is not used, so it need not be believed.
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=log_config,
        limit_concurrency=_CONNECTIONS,
        h11_max_incomplete_event_size=_HEAD_BYTES,
        timeout_keep_alive=head_seconds,
        timeout_graceful_shutdown=20,
    )
    return uvicorn.Server(config)
