"""The examples of `deploy/nginx` in a real nginx, and what may stand behind it and before it.

`Nginx` copies the files as an operator would and changes only names, ports and paths, and the
values that a test names. `Recorder` is a service that notes what reaches it, so that a test can
say that something did not.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "nginx"
WEB, PREDICTIONS = "vea.example.org", "predictions.example.org"
# Otherwise the tests, all from one address, would meet the limits that only some of them are about.
UNLIMITED = {"rate=10r/s": "rate=9000r/s", "rate=30r/s": "rate=9000r/s"}
# With this, a test can come from any address, as through a load balancer that nginx trusts.
FROM_ANYWHERE = "set_real_ip_from 127.0.0.1; real_ip_header X-Client;"
SITES = {WEB: "vea-web.conf", PREDICTIONS: "vea-predictions.conf"}

_MAIN = """
{user}
worker_processes 1;
daemon off;
pid {prefix}/nginx.pid;
error_log {prefix}/error.log info;
events {{ worker_connections 512; }}
http {{
    client_body_temp_path {prefix}/body;
    proxy_temp_path {prefix}/proxy;
    fastcgi_temp_path {prefix}/fastcgi;
    uwsgi_temp_path {prefix}/uwsgi;
    scgi_temp_path {prefix}/scgi;
    {extra}
    include conf.d/*.conf;
    include sites-enabled/*.conf;
}}
"""


@dataclass(frozen=True)
class Answer:
    """What a client got back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def reason(self) -> str:
        """Of a refusal in the form of every error of vea."""
        error = json.loads(self.body)["error"]
        assert error["code"] == self.status
        return str(error["reason"])


@dataclass(frozen=True)
class Nginx:
    """A proxy that runs.

    Attributes:
        port: of TLS.
        plain_port: without TLS.
        prefix: its folder; ``vea.log`` is in it.
        certificate: of both sites, signed by itself.
    """

    port: int
    plain_port: int
    prefix: Path
    certificate: Path

    @classmethod
    @contextmanager
    def running(
        cls,
        prefix: Path,
        *,
        web: int = 1,
        torchserve: int = 1,
        changes: Mapping[str, str] | None = None,
        extra: str = "",
    ) -> Iterator[Nginx]:
        """A proxy for the length of a ``with`` block.

        Args:
            prefix: a folder that need not exist.
            web: port of what stands for `vea web`.
            torchserve: port of what stands for TorchServe.
            changes: parts of the examples and what they become; each must occur.
            extra: lines for the http block.
        """
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        if program is None:
            pytest.skip("there is no nginx (Debian's package nginx-light)")
        shutil.copytree(FOLDER, prefix, dirs_exist_ok=True)
        port, plain = free_port(), free_port()
        certificate = _certificate(prefix)
        _configure(
            prefix,
            certificate,
            {
                "listen 443 ": f"listen 127.0.0.1:{port} ",
                "listen 80": f"listen 127.0.0.1:{plain}",
                "127.0.0.1:8000": f"127.0.0.1:{web}",
                "127.0.0.1:8080": f"127.0.0.1:{torchserve}",
                "/etc/ssl/vea/fullchain.pem": str(certificate),
                "/etc/ssl/private/vea.pem": str(prefix / "key.pem"),
                "/var/log/nginx": str(prefix),
                **(changes or {}),
            },
        )
        (prefix / "nginx.conf").write_text(
            _MAIN.format(prefix=prefix, extra=extra, user="user root;" if os.getuid() == 0 else "")
        )
        command = [program, "-p", str(prefix), "-c", str(prefix / "nginx.conf"), "-e", "stderr"]
        with (prefix / "start.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait_for(port, process, prefix / "start.log")
            yield cls(port, plain, prefix, certificate)
        finally:
            process.terminate()
            process.wait(timeout=30)

    def connect(
        self, site: str | None, *, context: ssl.SSLContext | None = None, timeout: float = 60.0
    ) -> ssl.SSLSocket:
        """A connection whose handshake names ``site``."""
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=timeout)
        try:
            return (context or self.trust()).wrap_socket(raw, server_hostname=site)
        except BaseException:
            raw.close()
            raise

    def trust(self) -> ssl.SSLContext:
        """TLS of a client that knows the certificate."""
        return ssl.create_default_context(cafile=str(self.certificate))

    def ask(
        self,
        site: str,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request on a connection of its own."""
        connection = http.client.HTTPSConnection(site, timeout=60)
        connection.sock = self.connect(site)
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def send(self, site: str, request: bytes) -> list[int]:
        """Status of each answer to raw bytes, until the proxy closes or is silent."""
        with self.connect(site, timeout=2.0) as connection:
            connection.sendall(request)
            received = b""
            try:
                while piece := connection.recv(65536):
                    received += piece
            except (TimeoutError, ConnectionError, ssl.SSLError):
                pass
        return [int(found) for found in re.findall(rb"HTTP/1\.[01] (\d{3}) ", received)]

    @property
    def log(self) -> list[dict[str, Any]]:
        """The lines of the access log."""
        text = (self.prefix / "vea.log").read_text()
        return [json.loads(line) for line in text.splitlines()]


@dataclass
class Seen:
    """A request as the service behind the proxy saw it."""

    line: str
    headers: Mapping[str, str]
    body: bytes
    connection: tuple[str, int]


@dataclass
class Recorder:
    """A service that answers everything with 200 and remembers it.

    Attributes:
        seen: the requests, in order.
        hold: clear it, and answers wait until it is set.
        drops_kept_connections: close a connection at its second request, without an answer.
    """

    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    hold: threading.Event = field(default_factory=threading.Event)
    drops_kept_connections: bool = False

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[Recorder]:
        """A recorder for the length of a ``with`` block."""
        recorder = cls()
        recorder.hold.set()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.number = getattr(self, "number", 0) + 1
                super().handle_one_request()

            def __getattr__(self, name: str) -> Any:
                if name.startswith("do_"):
                    return self.note
                raise AttributeError(name)

            def note(self) -> None:
                if recorder.drops_kept_connections and self.number > 1:
                    self.close_connection = True
                    return
                length = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(length)
                recorder.seen.append(
                    Seen(self.requestline, self.headers, body, self.client_address)
                )
                recorder.hold.wait(60)
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.send_header("X-Frame-Options", "DENY")  # as the gateway says, too
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(b"ok")

            def log_message(self, *_: object) -> None:
                pass

        class Service(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """Whoever went away before the answer was there."""

        service = Service(("127.0.0.1", 0), Handler)
        service.daemon_threads = True
        recorder.port = service.server_port
        threading.Thread(target=service.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield recorder
        finally:
            recorder.hold.set()
            service.shutdown()
            service.server_close()


def free_port() -> int:
    """A port that nobody has, below those that the kernel hands out."""
    while True:
        port = random.randrange(20000, 32768)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _configure(prefix: Path, certificate: Path, changes: Mapping[str, str]) -> None:
    files = [*prefix.glob("*/*.conf")]
    unused = set(changes)
    for file in files:
        text = re.sub(r"(?m)^ *listen \[::\]:.*\n", "", file.read_text())  # loopback alone
        for old, new in changes.items():
            if old in text:
                unused.discard(old)
                text = text.replace(old, new)
        file.write_text(text)
    assert not unused, f"the examples say nothing of {unused}"
    enabled = prefix / "sites-enabled"
    enabled.mkdir(exist_ok=True)
    for site in SITES.values():
        shutil.copy(prefix / "sites-available" / site, enabled / site)


def _certificate(prefix: Path) -> Path:
    certificate = prefix / "certificate.pem"
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("there is no openssl to make a certificate with")
    command = [
        *(program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
        *("-nodes", "-days", "2", "-subj", "/CN=vea", "-keyout", str(prefix / "key.pem")),
        *("-addext", "subjectAltName=" + ",".join(f"DNS:{site}" for site in SITES)),
        *("-out", str(certificate)),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return certificate


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(f"nginx does not listen: {log.read_text()}")


def rest(connection: ssl.SSLSocket) -> bytes:
    """Everything until the other side ends; fails if it does not."""
    received = b""
    try:
        while piece := connection.recv(65536):
            received += piece
    except TimeoutError:
        raise AssertionError("the connection was left open") from None
    except (ConnectionError, ssl.SSLError):
        pass
    return received


def until(condition: object, *, seconds: float = 30.0) -> None:
    """Wait until ``condition()`` holds."""
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)
