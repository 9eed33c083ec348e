"""What the gateway's tests share: one that runs in this process, and requests of any shape."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from handler.telemetry import Telemetry
from vea.serving.server import TorchServe
from vea.web.application import Limits, build
from vea.web.keys import KeyRing
from vea.web.server import listen, server
from vea.web.upstream import TorchServeUpstream, Upstream


@contextmanager
def gateway(
    state: Path | Upstream,
    *,
    keys: KeyRing | None = None,
    limits: Limits | None = None,
    telemetry: Telemetry | None = None,
    **options: Any,
) -> Iterator[str]:
    """Its address, for the length of a block; before the TorchServe in a folder, or another."""
    upstream = TorchServeUpstream(lambda: TorchServe.attach(state)) if _is_folder(state) else state
    app = build(upstream, keys=keys, limits=limits, telemetry=telemetry)
    running = server(app, **options)
    with listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=running.run, args=([listener],), daemon=True)
        thread.start()
        deadline = time.monotonic() + 20
        while not running.started:
            assert thread.is_alive(), "the gateway did not start"
            assert time.monotonic() < deadline, "the gateway did not start in time"
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            running.should_exit = True
            thread.join(30)


def _is_folder(state: object) -> bool:
    return isinstance(state, Path)


def send(
    base: str,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, Any, dict[str, str]]:
    """One request, its path as it stands: status, document (or bytes), headers in lower case."""
    place = urlsplit(base)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
    try:
        connection.request(method, path, body=body, headers=dict(headers or {}))
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    received = {name.lower(): value for name, value in response.getheaders()}
    try:
        return response.status, json.loads(content), received
    except ValueError:
        return response.status, content, received


def send_raw(base: str, request: bytes, *, seconds: float = 20.0) -> bytes:
    """Bytes over a connection of their own; everything that comes back until it ends."""
    place = urlsplit(base)
    received = b""
    with socket.create_connection((place.hostname or "", place.port or 0), timeout=seconds) as wire:
        wire.sendall(request)
        try:
            while piece := wire.recv(65536):
                received += piece
        except ConnectionResetError:
            pass
    return received


def reason(answer: Any) -> str:
    """Of an error document, checked for its form."""
    assert set(answer) == {"error"}, answer
    assert set(answer["error"]) == {"code", "reason"}
    return str(answer["error"]["reason"])
