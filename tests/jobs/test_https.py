import shutil
import socket
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from jobs.fetching.fetcher import Fetcher
from jobs.fetching.https import HostError, HttpsImages
from jobs.fetching.public_hosts import is_public
from jobs.storage.errors import ObjectUnavailable, StorageError
from jobs.storage.retry import Retries
from jobs.storage.stores import Stores
from jobs.values.job import RetrySettings

pytestmark = pytest.mark.integration

QUICK = RetrySettings(attempts=3, base=0.001)
PHOTO = bytes(range(256)) * 400


class WebServer(ThreadingHTTPServer):
    """Answers ``/status/503``, ``/to?URL``, and what else the tests ask for."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Requests)
        self.requests = []
        self.faults = []
        self.peers = set()

    def handle_error(self, request, client_address):
        """Broken connections are the point here, not news."""


class _Requests(BaseHTTPRequestHandler):
    server: WebServer
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.requests.append((self.path, dict(self.headers)))
        self.server.peers.add(self.client_address)
        fault = self.server.faults.pop(0) if self.server.faults else ""
        path, _, target = self.path.partition("?")
        if fault == "reset":
            self.close_connection = True
        elif fault or path.startswith("/status/"):
            self._answer(int(fault or path.removeprefix("/status/")), b"no")
        elif path == "/to":
            self._answer(302, b"", Location=target)
        elif path == "/cut":
            self.send_response(200)
            self.send_header("Content-Length", str(len(PHOTO)))
            self.end_headers()
            self.wfile.write(PHOTO[:1000])
            self.close_connection = True
        elif path in ("/chunked", "/chunked-cut", "/endless"):
            self._chunks(path)
        elif path == "/slow":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            for _ in range(1000):
                self.wfile.write(b".")
                time.sleep(0.02)
        else:
            self._answer(200, PHOTO, ETag='W/"version-1"')

    def _answer(self, status, body, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _chunks(self, path):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for _ in range(10**6 if path == "/endless" else 4):
            self.wfile.write(b"6400\r\n" + bytes(0x6400) + b"\r\n")
        if path == "/chunked":
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def log_message(self, *_):
        """Keep the tests' output clean."""


@contextmanager
def running(server):
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server():
    with running(WebServer()) as web:
        yield web


@pytest.fixture
def origin(server):
    return f"http://127.0.0.1:{server.server_port}"


@pytest.fixture
def fetch(origin):
    images = HttpsImages(Retries(QUICK, threads=4), insecure_origins=[origin])

    def run(path, max_bytes=10**6):
        return images.fetch(origin + path, max_bytes=max_bytes)

    return run


def refusal(fetch, *arguments, **options):
    with pytest.raises(ObjectUnavailable) as caught:
        fetch(*arguments, **options)
    assert "\n" not in caught.value.reason
    return caught.value.kind, caught.value.reason


def test_an_image_comes_with_its_version_over_one_connection(server, fetch):
    for _ in range(3):
        assert fetch("/a b.jpg?size=2#part") == (PHOTO, "version-1")
    assert server.requests[0][0] == "/a%20b.jpg?size=2"
    assert len(server.peers) == 1


def test_it_is_part_of_the_fetcher(origin):
    fetcher = Fetcher(Stores(retry=QUICK), max_bytes=10**6, insecure_origins=[origin])
    assert fetcher.fetch(f"{origin}/a.jpg").data == PHOTO


@pytest.mark.parametrize("fault", ["reset", "503", "429", "500"])
def test_a_passing_fault_is_tried_again(server, fetch, fault):
    server.faults = [fault, fault]
    assert fetch("/a.jpg")[0] == PHOTO
    assert len(server.requests) == 3


@pytest.mark.parametrize("path", ["/cut", "/chunked-cut", "/status/503"])
def test_a_lasting_fault_makes_an_image_unreachable(server, fetch, path):
    kind, reason = refusal(fetch, path)
    assert kind == "unreachable"
    assert "127.0.0.1 fails after 3 attempts" in reason
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, "missing"), (410, "missing"), (403, "forbidden"), (401, "forbidden"), (418, "refused")],
)
def test_a_plain_no_is_not_asked_for_again(server, fetch, status, kind):
    assert refusal(fetch, f"/status/{status}") == (
        kind,
        f"the server answers with status {status}",
    )
    assert len(server.requests) == 1


def test_a_large_image_is_refused_by_its_length_or_while_it_comes(fetch):
    assert refusal(fetch, "/a.jpg", max_bytes=10)[1].startswith(f"the object has {len(PHOTO)}")
    assert fetch("/chunked")[0] == bytes(4 * 0x6400)
    assert refusal(fetch, "/endless", max_bytes=10**5)[0] == "too-large"


def test_a_server_that_trickles_does_not_hold_a_thread_for_ever(server, origin):
    images = HttpsImages(Retries(QUICK, threads=1), insecure_origins=[origin], seconds=0.2)
    assert "takes too long" in refusal(images.fetch, f"{origin}/slow", max_bytes=10**6)[1]


def test_redirects_are_followed_three_times_within_what_is_allowed(server, origin, fetch):
    def via(times):
        return "/to?" * times + "/a.jpg"

    assert fetch(via(1))[0] == PHOTO
    assert fetch(f"/to?{origin}/to?{origin}/a.jpg")[0] == PHOTO
    assert fetch(via(3))[0] == PHOTO
    assert refusal(fetch, via(4)) == ("refused", "the server redirects more than 3 times")


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("https://elsewhere.example/a.jpg", "'elsewhere.example' is not among"),
        ("http://169.254.169.254/latest", "http:// is not encrypted"),
        ("ftp://elsewhere.example/a.jpg", "not a valid URL"),
        ("https://[your-cdn]/a.jpg", "your-cdn%5D' is not among"),
        ("https://[bad", "not among"),
    ],
)
def test_redirects_lead_nowhere_else(fetch, target, reason):
    kind, said = refusal(fetch, f"/to?{target}")
    assert kind == "bad-location"
    assert said.startswith("it redirects: ")
    assert reason in said


ALLOWED = ("images.example.org", "*.photos.example", "cdn.example:8443")


@pytest.mark.parametrize(
    "url",
    [
        "https://images.example.org/a.jpg",
        "HTTPS://Images.Example.ORG:443/a.jpg",
        "https://a.b.photos.example/a.jpg",
        "https://cdn.example:8443/a.jpg",
    ],
)
def test_named_hosts_are_asked(url, monkeypatch):
    asked = []

    def resolve(host, *_, **__):
        asked.append(host)
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    images = HttpsImages(Retries(QUICK, threads=1), ALLOWED)
    assert refusal(images.fetch, url, max_bytes=1)[0] == "unreachable"
    assert len(asked) == 3


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/a.jpg",
        "https://images.example.org.evil.example/a.jpg",
        "https://evil.example/images.example.org",
        "https://images.example.org:8080/a.jpg",
        "https://photos.example/a.jpg",
        "https://.photos.example/a.jpg",
        "https://evilphotos.example/a.jpg",
        "https://cdn.example/a.jpg",
        "https://images.example.org@evil.example/a.jpg",
        "https://user:word@images.example.org/a.jpg",
        "https://evil.example\\@images.example.org/a.jpg",
        "http://images.example.org/a.jpg",
        "https:///a.jpg",
        "https://[::1/a.jpg",
        "https://images.example.org:x/a.jpg",
    ],
)
def test_no_other_host_is_asked(url, monkeypatch):
    def resolve(*_, **__):
        raise AssertionError("asked")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    images = HttpsImages(Retries(QUICK, threads=1), ALLOWED)
    assert refusal(images.fetch, url, max_bytes=1)[0] == "bad-location"


@pytest.mark.parametrize("host", ["", "*", "https://a.example", "a.example/path", "a.*.example"])
def test_what_is_no_host_cannot_be_allowed(host):
    with pytest.raises(HostError, match=r"expected a name such as images\.example\.org"):
        HttpsImages(Retries(QUICK, threads=1), [host])


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "10.1.2.3", "::1", "fd00::1"])
def test_a_name_of_a_private_address_is_not_connected_to(address, monkeypatch):
    def resolve(*_, **__):
        entry = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*entry, ("93.184.215.14", 443)), (*entry, (address, 443))]

    def connect(*_, **__):
        raise AssertionError("connected")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket.socket, "connect", connect)
    images = HttpsImages(Retries(QUICK, threads=1), ["images.example.org"])
    kind, reason = refusal(images.fetch, "https://images.example.org/a.jpg", max_bytes=1)
    assert kind == "bad-location"
    assert f"'images.example.org' is at {address}, which is not a public address" in reason


def test_the_connection_goes_to_the_address_that_was_looked_at(monkeypatch):
    answers = ["93.184.215.14", "127.0.0.1"]
    connected = []

    def resolve(host, port, *_, **__):
        address = host if host[0].isdigit() else answers.pop(0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443))]

    def connect(_, address):
        connected.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket.socket, "connect", connect)
    settings = RetrySettings(attempts=1)
    images = HttpsImages(Retries(settings, threads=1), ["images.example.org"])
    refusal(images.fetch, "https://images.example.org/a.jpg", max_bytes=1)
    assert connected == ["93.184.215.14"]


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:4700::1", True),
        ("64:ff9b::5db8:d70e", True),
        ("64:ff9b::7f00:1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:169.254.169.254", False),
        ("2002:7f00:1::", False),
        ("0.0.0.0", False),
        ("100.64.0.1", False),
        ("192.168.0.1", False),
        ("224.0.0.1", False),
        ("fe80::1", False),
        ("ff0e::1", False),
    ],
)
def test_public_addresses(address, public):
    assert is_public(address) is public


@pytest.fixture
def tls_server(tmp_path):
    """A web server with a certificate for ``localhost`` that nobody has signed but itself."""
    if not (openssl := shutil.which("openssl")):
        pytest.skip("openssl makes the certificate, and is not here")
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "certificate.pem")]
    what = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subprocess.run([*command, *what, *files], check=True, capture_output=True)
    web = WebServer()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    web.socket = context.wrap_socket(web.socket, server_side=True)
    with running(web):
        yield web, tmp_path / "certificate.pem"


def test_a_certificate_that_is_not_trusted_is_final(tls_server):
    server, _ = tls_server
    origin = f"https://localhost:{server.server_port}"
    images = HttpsImages(Retries(QUICK, threads=1), insecure_origins=[origin])
    kind, reason = refusal(images.fetch, f"{origin}/a.jpg", max_bytes=10**6)
    assert kind == "refused"
    assert "TLS certificate verification failed" in reason
    assert not server.requests


def test_tls_names_the_host_and_connects_to_the_address_that_was_checked(tls_server, monkeypatch):
    server, certificate = tls_server
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    # As if this machine's loopback address were one of the internet's.
    monkeypatch.setattr("jobs.fetching.public_hosts.is_public", lambda address: True)
    images = HttpsImages(Retries(QUICK, threads=1), [f"localhost:{server.server_port}"])
    url = f"https://localhost:{server.server_port}/a.jpg"
    assert images.fetch(url, max_bytes=10**6)[0] == PHOTO
    assert server.requests[0][1]["Host"] == f"localhost:{server.server_port}"


def test_closing_ends_a_wait_and_blames_no_image(server, origin):
    retries = Retries(RetrySettings(attempts=1000, base=1000, cap=1000), threads=1)
    images = HttpsImages(retries, insecure_origins=[origin])
    threading.Timer(0.3, retries.close).start()
    with pytest.raises(StorageError, match="being stopped"):
        images.fetch(f"{origin}/status/503", max_bytes=1)
