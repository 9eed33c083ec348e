"""What the reverse proxy lets through to the service, and what not, however it is spelt."""

from __future__ import annotations

import pytest
from nginx_server import PREDICTIONS, SITES, WEB, Nginx, Recorder

pytestmark = pytest.mark.integration

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
@pytest.mark.threat("T1")
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
@pytest.mark.threat("T1")
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


@pytest.mark.threat("T5")
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


@pytest.mark.threat("T5")
def test_no_client_can_change_the_protocol(nginx: Nginx, recorder: Recorder) -> None:
    for protocol in ("h2c", "websocket"):
        headers = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": protocol}
        headers["HTTP2-Settings"] = "AAMAAABkAARAAAAAAAIAAAAA"
        assert nginx.ask(WEB, "POST", "/predictions/tiny", headers=headers).status == 200
        seen = recorder.seen.pop()
        assert "Upgrade" not in seen.headers
        assert "Upgrade" not in seen.headers.get("Connection", "")
