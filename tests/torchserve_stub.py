"""A stand-in for TorchServe that says what a test tells it to, and keeps what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

from vea.web.upstream import TorchServeUpstream

# As TorchServe 0.12.0 words them.
QUEUE_FULL = (503, {"code": 503, "type": "ServiceUnavailableException", "message": "no worker"})
WORKER_DIED = (500, {"code": 500, "type": "InternalServerException", "message": "Worker died."})
UNKNOWN = (404, {"code": 404, "type": "ModelNotFoundException", "message": "no such model"})
OLD_KEY = (400, {"code": 400, "type": "InvalidKeyException", "message": "Token not valid"})
NO_MEMORY = (507, {"code": 507, "type": "InternalServerException", "message": "Out of memory"})
TOO_LARGE = (413, None)
GOOD = (200, {"emotion": "awe"})
HANG = (0, None)


@dataclass
class Seen:
    """What arrived."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes


@dataclass
class Stub:
    """Answers in order, the last one for ever."""

    answers: Sequence[tuple[int, Any]]
    seen: list[Seen] = field(default_factory=list)
    upstream: Any = None


@contextmanager
def torchserve(*answers: tuple[int, Any]) -> Iterator[Stub]:
    """A stub on a free port, and the gateway's `TorchServeUpstream` to it."""
    stub = Stub(answers)
    released = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            stub.seen.append(Seen(self.command, self.path, list(self.headers.items()), body))
            status, document = stub.answers[min(len(stub.seen), len(stub.answers)) - 1]
            if status == 0:
                released.wait(30)
                return
            content = b"" if document is None else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("X-Inside", "torchserve")
            self.send_header("Set-Cookie", "a=b")
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        threading.Thread(target=running.serve_forever, daemon=True).start()
        port = running.server_port
        ports = SimpleNamespace(inference=port, management=port, metrics=port)
        client = SimpleNamespace(token=lambda service: f"the-{service}-key")
        server: Any = SimpleNamespace(ports=ports, client=client)
        stub.upstream = TorchServeUpstream(lambda: server)
        try:
            yield stub
        finally:
            released.set()
            running.shutdown()
