"""An S3 server that misbehaves on command: what no real one can be told to do.

It keeps objects in memory, knows GET only, and checks no signatures. ``faults[key]`` is a list of
what happens to the next requests for a key ("cut", "reset", "503", "403 AccessDenied"); when it is
used up, they succeed. ``answers[key]`` is sent byte for byte whenever a key is asked for, and ends
the connection; of a list of answers each is sent once. ``etags[key]`` replaces an object's MD5.
``capacity`` is how many requests at a time it bears before it says SlowDown, and ``agents`` holds
the names that its clients give themselves.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class FlakyS3(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Requests)
        self.objects: dict[str, bytes] = {}
        self.faults: dict[str, list[str]] = {}
        self.answers: dict[str, bytes | list[bytes]] = {}
        self.requests = Counter[str]()
        self.keys: set[str] = set()
        self.etags: dict[str, str] = {}
        self.agents: set[str] = set()
        self.capacity = 1000
        self.seconds = 0.0
        self.prompt = False  # or each body waits 40 ms for the client's receipt of its head
        self.throttled = 0
        self.under_way = 0
        self.lock = threading.Lock()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        """Broken connections are the point here, not news."""


class _Requests(BaseHTTPRequestHandler):
    server: FlakyS3
    protocol_version = "HTTP/1.1"

    def setup(self):
        self.disable_nagle_algorithm = self.server.prompt
        super().setup()

    def do_GET(self):
        server = self.server
        with server.lock:
            server.under_way += 1
            full = server.under_way > server.capacity
            server.throttled += full
        try:
            if full:
                self._refuse(503, "SlowDown")
            else:
                time.sleep(server.seconds)
                self._answer()
        finally:
            with server.lock:
                server.under_way -= 1

    def _answer(self):
        path = urlsplit(self.path).path  # a proxy is sent the whole URL
        _, _, key = path.lstrip("/").partition("/")
        self.server.agents.add(self.headers.get("User-Agent", ""))
        self.server.requests[key] += 1
        self.server.keys |= set(re.findall("Credential=([^/]*)/", str(self.headers)))
        faults = self.server.faults.get(key)
        fault = faults.pop(0) if faults else "none"
        data = self.server.objects.get(key)
        if key in self.server.answers:
            answer = self.server.answers[key]
            self.wfile.write(answer.pop(0) if isinstance(answer, list) else answer)
            self.close_connection = True
        elif fault[0].isdigit():
            status, _, code = fault.partition(" ")
            self._refuse(int(status), code or "SlowDown")
        elif fault == "reset":
            self.close_connection = True
        elif data is None:
            self._refuse(404, "NoSuchKey")
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            md5 = hashlib.md5(data).hexdigest()
            self.send_header("ETag", f'"{self.server.etags.get(key) or md5}"')
            self.send_header("Last-Modified", formatdate(usegmt=True))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if fault == "cut" else data)
            self.close_connection = fault == "cut"

    def _refuse(self, status, code):
        body = f"<Error><Code>{code}</Code><Message>as told</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Keep the tests' output clean."""


@contextmanager
def flaky_s3() -> Iterator[FlakyS3]:
    server = FlakyS3()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
