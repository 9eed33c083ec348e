"""The reverse proxy that `deploy/nginx` proposes, in a real nginx: what it lets in and what not."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from nginx_server import FOLDER, PREDICTIONS, SITES, WEB, Nginx, Recorder
from torchserve_server import drawn_images

from handler.images import ImageLimits
from train.package import default_serving, package
from vea.serving.server import TorchServe
from vea.web.server import HEAD_SECONDS

pytestmark = pytest.mark.integration

MIB = 1024 * 1024
# Otherwise the tests, all from one address, would meet the limits that only some of them are about.
UNLIMITED = {"rate=10r/s": "rate=9000r/s", "rate=30r/s": "rate=9000r/s"}
# With this, a test can come from any address, as through a load balancer that nginx trusts.
FROM_ANYWHERE = "set_real_ip_from 127.0.0.1; real_ip_header X-Client;"
# Never what an outside client may ask of either site.
FORBIDDEN = [
    "GET /ping",
    "GET /readyz",
    "GET /metrics",
    "GET /token?type=management",
    "GET /api-description",
    "POST /models?url=http://127.0.0.1/x.mar",
    "PUT /models/tiny?min_worker=0",
    "DELETE /models/tiny",
    "GET /models/tiny",
    "POST /workflows?url=http://127.0.0.1/x.war",
    "GET /workflows",
    "POST /invocations",
    "GET /v2/health/ready",
    "OPTIONS /",
    "OPTIONS /predictions/tiny",
    "GET /predictions/tiny",
    "DELETE /predictions/tiny",
    "TRACE /predictions/tiny",
    "CONNECT 127.0.0.1:8081",
    "POST /predictions",
    "POST /predictions/",
    "POST /predictions/tiny/0.1/more",
    "POST /Predictions/tiny",
    "POST /predictions/tiny;/../../models",
    "POST /predictions/../models",
    "POST /predictions/tiny/../../models",
    "POST /predictions/%2e%2e/models",
    "POST /predictions/..%2fmodels",
    "POST /predictions/%2e%2e%2fmodels",
    "POST /predictions/tiny%2f..%2f..%2fmodels",
    "POST /predictions/tiny/..%5c..%5cmodels",
    "POST /predictions/tiny%0d%0aX:%20y",
    "POST /predictions/tiny%00",
    "POST /predictions/tiny%0a",
    "POST /predictions/%252e%252e/models",
    "POST /predictions/..",
    "POST /predictions/tiny/..",
    "POST //models",
    "POST /./workflows",
    "POST //predictions//tiny",
    "POST /%77orkflows",
    "POST /\\models",
    "POST http://127.0.0.1:8081/models",
    "POST http://127.0.0.1:8081/predictions/tiny",
]
AMBIGUOUS = {
    "two lengths": "Content-Length: 2\r\nContent-Length: 60",
    "a length beside chunks": "Content-Length: 2\r\nTransfer-Encoding: chunked",
    "chunks and another coding": "Transfer-Encoding: chunked, identity",
    "chunks spelt otherwise": "Transfer-Encoding: xchunked",
    "chunks twice": "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "a space before the colon": "Transfer-Encoding : chunked",
    "a length with a sign": "Content-Length: +2",
    "a negative length": "Content-Length: -2",
    "two hosts": "Content-Length: 2\r\nHost: 127.0.0.1:8081",
}


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with Recorder.running() as running:
        yield running


@pytest.fixture
def nginx(recorder: Recorder, tmp_path: Path) -> Iterator[Nginx]:
    """Both sites, with a recorder behind each, and no limits of how much one may ask."""
    with Nginx.running(
        tmp_path / "nginx", web=recorder.port, torchserve=recorder.port, changes=UNLIMITED
    ) as running:
        yield running


@pytest.fixture
def limited(recorder: Recorder, tmp_path: Path) -> Iterator[Nginx]:
    """The same with its limits, for clients from anywhere, and a slower pace than tests ask at."""
    with Nginx.running(
        tmp_path / "nginx",
        web=recorder.port,
        torchserve=recorder.port,
        changes={"rate=10r/s": "rate=1r/s", "burst=40": "burst=4"},
        extra=FROM_ANYWHERE,
    ) as running:
        yield running


@pytest.fixture(scope="module")
def torchserve(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServe]:
    folder = tmp_path_factory.mktemp("mar")
    archive = package(tiny_model, folder, name="tiny", version="0.1", card={})
    with TorchServe.running(archive, tmp_path_factory.mktemp("serve")) as running:
        yield running


def key(server: TorchServe) -> dict[str, str]:
    return {
        "Authorization": f"Bearer {server.client.token()}",
        "Content-Type": "application/octet-stream",
    }


def test_a_photo_passes_to_the_model_and_its_answer_back(
    torchserve: TorchServe, tmp_path: Path
) -> None:
    image = drawn_images(1)[0]
    with Nginx.running(tmp_path / "nginx", torchserve=torchserve.ports.inference) as nginx:
        for path in ("/predictions/tiny", "/predictions/tiny/0.1", "/explanations/tiny"):
            answer = nginx.ask(PREDICTIONS, "POST", path, body=image, headers=key(torchserve))
            assert answer.status == 200, answer.body
            assert b'"probabilities"' in answer.body
            assert (b'"activation"' in answer.body) == path.startswith("/explanations")
        assert nginx.ask(PREDICTIONS, "POST", "/predictions/tiny", body=image).status == 400
        shown = (nginx.prefix / "vea.log").read_text()
        assert shown.count('"path":"/predictions/tiny"') == 2
        assert torchserve.client.token() not in shown


def test_the_largest_photo_passes_and_what_is_larger_does_not(
    torchserve: TorchServe, tmp_path: Path
) -> None:
    image = drawn_images(1)[0]
    with Nginx.running(tmp_path / "nginx", torchserve=torchserve.ports.inference) as nginx:
        for size, status in ((20 * MIB, 200), (21 * MIB, 413), (30 * MIB, 413)):
            answer = nginx.ask(
                PREDICTIONS,
                "POST",
                "/predictions/tiny",
                body=image.ljust(size, b"\0"),
                headers=key(torchserve),
            )
            assert answer.status == status, size
            if status == 413:
                assert answer.reason


def test_limits_fit_those_of_the_server_behind(torchserve: TorchServe) -> None:
    text = (FOLDER / "snippets" / "vea-server.conf").read_text()
    (limit,) = re.findall(r"client_max_body_size (\d+)m;", text)
    (taken,) = re.findall(r"max_request_size=(\d+)", torchserve.workplace.settings.read_text())
    assert int(taken) <= int(limit) * MIB
    assert ImageLimits().max_bytes < int(limit) * MIB
    text = (FOLDER / "snippets" / "vea-proxy.conf").read_text()
    (patience,) = re.findall(r"proxy_read_timeout (\d+)s;", text)
    assert int(patience) > default_serving()["responseTimeout"]
    # The gateway must not close a kept connection in the moment in which nginx uses it again.
    text = (FOLDER / "sites-available" / "vea-web.conf").read_text()
    (kept,) = re.findall(r"keepalive_timeout (\d+)s;", text)
    assert int(kept) < HEAD_SECONDS


def test_what_is_allowed_reaches_the_service_as_it_was_matched(
    nginx: Nginx, recorder: Recorder
) -> None:
    allowed = {
        PREDICTIONS: ["POST /predictions/tiny", "PUT /explanations/tiny/1.0"],
        WEB: [
            *("GET /", "HEAD /", "GET /models", "GET /openapi.json", "GET /healthz"),
            *("GET /assets/page.js", "GET /samples/cat.webp"),
            *("POST /predictions/vea-lite", "PUT /explanations/vea-lite/1.0"),
        ],
    }
    for site, requests in allowed.items():
        for request in requests:
            method, path = request.split()
            body = b"photo" if method in ("POST", "PUT") else None
            answer = nginx.ask(site, method, f"{path}?a=query", body=body)
            assert answer.status == 200, request
            assert recorder.seen.pop().line == f"{method} {path} HTTP/1.1"
            assert recorder.seen == []


@pytest.mark.parametrize("site", SITES)
def test_nothing_else_reaches_the_service_however_it_is_spelt(
    nginx: Nginx, recorder: Recorder, site: str
) -> None:
    for request in FORBIDDEN:
        head = f"{request} HTTP/1.1\r\nHost: {site}\r\nContent-Length: 0\r\nConnection: close"
        (status,) = nginx.send(site, f"{head}\r\n\r\n".encode())
        assert status in (400, 404, 405, 421), (request, status)
    assert recorder.seen == []


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("what", AMBIGUOUS)
def test_a_request_that_can_be_read_in_two_ways_is_not_passed_on(
    nginx: Nginx, recorder: Recorder, site: str, what: str
) -> None:
    hidden = f"POST /workflows?url=x HTTP/1.1\r\nHost: {site}\r\nContent-Length: 0\r\n\r\n"
    request = (
        f"POST /predictions/tiny HTTP/1.1\r\nHost: {site}\r\n{AMBIGUOUS[what]}\r\n\r\n"
        f"0\r\n\r\n{hidden}"
    )
    first, *later = nginx.send(site, request.encode())
    assert first in (400, 411, 501), what
    assert later == []
    assert recorder.seen == []


def test_a_request_in_the_body_of_another_stays_a_body(nginx: Nginx, recorder: Recorder) -> None:
    hidden = b"POST /workflows?url=x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(hidden), hidden)
    head = f"POST /predictions/tiny HTTP/1.1\r\nHost: {WEB}\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert nginx.send(WEB, head.encode() + chunks) == [200]
    (seen,) = recorder.seen
    assert seen.body == hidden
    # It is sent on with a length, so the service has no second way to read it.
    assert seen.headers["Content-Length"] == str(len(hidden))
    assert "Transfer-Encoding" not in seen.headers


def test_no_client_can_change_the_protocol(nginx: Nginx, recorder: Recorder) -> None:
    for protocol in ("h2c", "websocket"):
        headers = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": protocol}
        headers["HTTP2-Settings"] = "AAMAAABkAARAAAAAAAIAAAAA"
        assert nginx.ask(WEB, "POST", "/predictions/tiny", headers=headers).status == 200
        seen = recorder.seen.pop()
        assert "Upgrade" not in seen.headers
        assert "Upgrade" not in seen.headers.get("Connection", "")


def test_the_service_hears_the_real_address_of_a_client_whatever_it_says(
    nginx: Nginx, recorder: Recorder
) -> None:
    claims = ["X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Forwarded-Host"]
    claims += ["X-Forwarded-Proto", "X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Prefix"]
    claims += ["X_Forwarded_For"]
    nginx.ask(WEB, "GET", "/", headers=dict.fromkeys(claims, "10.9.8.7"))
    headers = recorder.seen.pop().headers
    assert headers["X-Forwarded-For"] == headers["X-Real-IP"] == "127.0.0.1"
    assert headers["X-Forwarded-Proto"] == "https"
    assert headers["Host"] == headers["X-Forwarded-Host"] == WEB
    assert "10.9.8.7" not in str(headers)


def test_connections_to_the_service_are_kept(nginx: Nginx, recorder: Recorder) -> None:
    for _ in range(5):
        assert nginx.ask(WEB, "POST", "/predictions/tiny", body=b"photo").status == 200
    assert len({seen.connection for seen in recorder.seen}) == 1


def test_a_prediction_whose_kept_connection_was_just_closed_is_asked_again(
    nginx: Nginx, recorder: Recorder
) -> None:
    recorder.drops_kept_connections = True
    for _ in range(4):
        assert nginx.ask(WEB, "POST", "/predictions/tiny", body=b"photo").status == 200
    assert [seen.body for seen in recorder.seen] == [b"photo"] * 4


@pytest.mark.parametrize(
    ("mine", "also_mine", "somebody_else"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2:ffff::7", "2001:db8:1:3:3:4:5:6"),
        ("2001:db8::1", "2001:db8::2", "2001:db8:1::1"),
    ],
)
def test_who_asks_too_much_has_to_wait_and_others_do_not(
    limited: Nginx, mine: str, also_mine: str, somebody_else: str
) -> None:
    def ask(address: str) -> int:
        headers = {"X-Client": address}
        answer = limited.ask(WEB, "POST", "/predictions/tiny", body=b"photo", headers=headers)
        if answer.status == 429:
            assert "too many" in answer.reason
            assert answer.headers["Retry-After"] == "1"
        return answer.status

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(ask, [mine, also_mine] * 10))
        assert ask(somebody_else) == 200
    assert statuses.count(200) >= 5  # one, and the burst
    assert statuses.count(429) >= 5  # unless the 20 took ten seconds
    assert set(statuses) == {200, 429}


def test_who_holds_too_many_connections_gets_no_more_and_others_do(
    limited: Nginx, recorder: Recorder
) -> None:
    def ask(address: str) -> int:
        return limited.ask(WEB, "GET", "/", headers={"X-Client": address}).status

    recorder.hold.clear()
    with ThreadPoolExecutor(21) as pool:
        try:
            held = [pool.submit(ask, "192.0.2.1") for _ in range(20)]
            until(lambda: len(recorder.seen) == 20)
            assert ask("192.0.2.1") == 429
            other = pool.submit(ask, "192.0.2.2")
            until(lambda: len(recorder.seen) == 21)
        finally:
            recorder.hold.set()
        assert {answer.result() for answer in held} == {200}
        assert other.result() == 200
    assert ask("192.0.2.1") == 200


def test_slow_clients_are_cut_off_while_others_are_served(
    recorder: Recorder, tmp_path: Path
) -> None:
    head = f"POST /predictions/tiny HTTP/1.1\r\nHost: {WEB}\r\nContent-Length: 1000\r\n".encode()
    openings = {"header": head, "body": head + b"\r\n"}
    changes = {
        "client_header_timeout 10s": "client_header_timeout 1s",
        "client_body_timeout 10s": "client_body_timeout 1s",
        # All of them come from one address, and would be refused at once.
        "limit_conn vea_connections 20": "limit_conn vea_connections 200",
        **UNLIMITED,
    }
    with (
        Nginx.running(tmp_path / "nginx", web=recorder.port, changes=changes) as nginx,
        contextlib.ExitStack() as connections,
    ):
        slow = []
        for opening in (openings["header"], openings["body"]) * 30:
            connection = connections.enter_context(nginx.connect(WEB, timeout=30.0))
            connection.sendall(opening)
            slow.append(connection)
        # As a slow loris does: a byte of the header now and then, which the whole header's limit
        # does not forgive.
        dripping = connections.enter_context(nginx.connect(WEB, timeout=30.0))
        dripping.sendall(b"GET / HTTP/1.1\r\n")
        stop = threading.Event()
        threading.Thread(target=drip, args=(dripping, stop), daemon=True).start()
        begun = time.monotonic()
        assert nginx.ask(WEB, "POST", "/predictions/tiny", body=b"photo").status == 200
        for connection in [*slow, dripping]:
            assert b"HTTP/1.1 200" not in rest(connection)
        stop.set()
        assert time.monotonic() - begun < 15  # 10 seconds without the change, and one with it
        assert [seen.body for seen in recorder.seen] == [b"photo"]


def drip(connection: ssl.SSLSocket, stop: threading.Event) -> None:
    """Send a byte of a header every 0.2 seconds for as long as it is taken."""
    with contextlib.suppress(OSError):
        connection.sendall(b"X-Slow: ")
        while not stop.wait(0.2):
            connection.sendall(b"a")


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


def test_a_slow_upload_reaches_the_service_only_when_it_is_whole(
    nginx: Nginx, recorder: Recorder
) -> None:
    head = f"POST /predictions/tiny HTTP/1.1\r\nHost: {WEB}\r\nContent-Length: 600000\r\n\r\n"
    with nginx.connect(WEB) as connection:
        connection.sendall(head.encode() + bytes(599_999))
        # Another request goes all the way while this one waits for its last byte.
        assert nginx.ask(WEB, "POST", "/predictions/tiny", body=b"photo").status == 200
        assert len(recorder.seen) == 1
        connection.sendall(b"!")
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
    assert len(recorder.seen[1].body) == 600_000


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("site", SITES)
def test_old_versions_of_tls_are_refused(recorder: Recorder, tmp_path: Path, site: str) -> None:
    def version(nginx: Nginx, wanted: ssl.TLSVersion) -> str | None:
        context = nginx.trust()
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = wanted
        try:
            with nginx.connect(site, context=context) as connection:
                return connection.version()
        except (ssl.SSLError, ConnectionError):
            return None

    with Nginx.running(tmp_path / "nginx", web=recorder.port) as nginx:
        assert version(nginx, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
        assert version(nginx, ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
        assert version(nginx, ssl.TLSVersion.TLSv1_1) is None
        assert version(nginx, ssl.TLSVersion.TLSv1) is None
    # The same client would get through if the example allowed it.
    lax = {
        "ssl_protocols TLSv1.2 TLSv1.3;": "ssl_protocols TLSv1 TLSv1.1 TLSv1.2;",
        "ssl_ciphers ": "ssl_ciphers ALL:@SECLEVEL=0:",
    }
    with Nginx.running(tmp_path / "lax", web=recorder.port, changes=lax) as nginx:
        assert version(nginx, ssl.TLSVersion.TLSv1_1) == "TLSv1.1"


@pytest.mark.parametrize("name", [None, "127.0.0.1", "other.example.org"])
def test_who_does_not_know_the_name_is_shown_no_certificate(nginx: Nginx, name: str | None) -> None:
    context = nginx.trust()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        nginx.connect(name, context=context)


@pytest.mark.parametrize("host", ["127.0.0.1:8081", "localhost", "other.example.org"])
def test_another_name_in_the_header_than_in_the_handshake_leads_nowhere(
    nginx: Nginx, recorder: Recorder, host: str
) -> None:
    answer = nginx.ask(WEB, "POST", "/predictions/tiny", headers={"Host": host})
    assert answer.status == 421
    assert "name" in answer.reason
    assert recorder.seen == []


def test_without_tls_there_is_only_the_way_to_the_page(nginx: Nginx, recorder: Recorder) -> None:
    def ask(request: str, host: str) -> tuple[str, str]:
        with socket.create_connection(("127.0.0.1", nginx.plain_port), timeout=30) as connection:
            head = f"{request} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
            connection.sendall(head.encode())
            answer = b"".join(iter(lambda: connection.recv(4096), b"")).decode()
        place = re.search(r"\r\nLocation: (.*)\r\n", answer)
        return answer.split()[1], place[1] if place else ""

    assert ask("GET /", WEB) == ("301", f"https://{WEB}/")
    assert ask("POST /predictions/tiny", WEB) == ("403", "")
    assert ask("GET /models", WEB) == ("403", "")
    assert ask("GET /", "other.example.org") == ("421", "")
    assert recorder.seen == []


def test_every_refusal_is_json_with_the_headers_of_a_careful_site(
    nginx: Nginx, recorder: Recorder
) -> None:
    def refused(status: int, *request: str, **more: object) -> dict[str, str]:
        answer = nginx.ask(WEB, *request, **more)  # type: ignore[arg-type]
        assert answer.status == status
        assert answer.reason
        assert answer.headers["Content-Type"] == "application/json"
        return careful(answer.headers)

    def careful(headers: object) -> dict[str, str]:
        got = {name.lower(): value for name, value in headers.items()}  # type: ignore[attr-defined]
        assert got["server"] == "nginx"  # and no version
        assert got["strict-transport-security"].startswith("max-age=")
        assert got["x-content-type-options"] == "nosniff"
        assert got["referrer-policy"] == "no-referrer"
        assert headers.get_all("X-Frame-Options") == ["DENY"]  # type: ignore[attr-defined]
        return got

    careful(nginx.ask(WEB, "GET", "/").headers)
    refused(404, "GET", "/workflows")
    assert refused(405, "GET", "/predictions/tiny")["allow"] == "POST, PUT"
    assert refused(405, "DELETE", "/")["allow"] == "GET, HEAD"
    refused(413, "POST", "/predictions/tiny", body=bytes(30 * MIB))
    refused(400, "GET", "/", headers={"X-Large": "x" * 9000})
    refused(414, "GET", "/" + "x" * 9000)
    with nginx.connect(WEB) as connection:
        connection.sendall(b"no HTTP at all\r\n\r\n")
        assert b'{"error": {"code": 400, "reason": "this is no HTTP' in rest(connection)
    assert len(recorder.seen) == 1


def test_a_service_that_is_down_is_told_from_a_mistake_of_the_client(tmp_path: Path) -> None:
    with Nginx.running(tmp_path / "nginx") as nginx:  # nothing listens on port 1
        answer = nginx.ask(WEB, "POST", "/predictions/tiny", body=b"photo")
    assert answer.status == 502
    assert "again" in answer.reason
    assert answer.headers["Retry-After"] == "5"


def test_the_log_keeps_neither_keys_nor_queries(nginx: Nginx) -> None:
    headers = {"Authorization": "Bearer a-secret-key"}
    nginx.ask(WEB, "POST", "/predictions/tiny?name=a-secret-name", body=b"x", headers=headers)
    until(lambda: len(nginx.log) == 1)
    (line,) = nginx.log
    assert (line["client"], line["method"], line["path"]) == (
        "127.0.0.1",
        "POST",
        "/predictions/tiny",
    )
    assert line["status"] == 200
    assert "a-secret" not in str(line)


def until(condition: object, *, seconds: float = 30.0) -> None:
    """Wait until ``condition()`` holds."""
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)
