"""A real HTTP server that answers as a script says, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DOCUMENT = {
    "emotion": "awe",
    "model": {"name": "m", "version": "1.0", "digest": "d" * 64},
}


@dataclass(frozen=True)
class Said:
    """An answer; status 0 breaks the connection off instead."""

    status: int = 200
    document: Any = field(default_factory=lambda: DOCUMENT)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Heard:
    """A request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Service:
    """The script and the memory.

    Args:
        answer: to each request; called in many threads.
    """

    def __init__(self, answer: Callable[[Heard], Said]) -> None:
        self.answer = answer
        self.heard: list[Heard] = []
        self.url = ""


@contextmanager
def scripted(*script: Said, answer: Callable[[Heard], Said] | None = None) -> Iterator[Service]:
    """A service that gives the answers of ``script`` one after the other, the last one for ever."""
    left = list(script)
    lock = threading.Lock()

    def next_of(heard: Heard) -> Said:
        with lock:
            return left.pop(0) if len(left) > 1 else left[0]

    service = Service(answer or next_of)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *values: object) -> None:
            """Say nothing."""

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            heard = Heard(self.command, self.path, dict(self.headers.items()), body)
            with lock:
                service.heard.append(heard)
            said = service.answer(heard)
            if said.status == 0:
                self.close_connection = True
                return
            content = said.document
            content = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(said.status)
            for name, value in said.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    service.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
