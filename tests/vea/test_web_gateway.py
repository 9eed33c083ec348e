"""The gateway before a stand-in: what goes through, what never does, and what is tried again."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator

import pytest
from gateway_server import gateway, reason, send, send_raw
from torchserve_stub import (
    GOOD,
    HANG,
    NO_MEMORY,
    OLD_KEY,
    QUEUE_FULL,
    TOO_LARGE,
    UNKNOWN,
    WORKER_DIED,
    Stub,
    torchserve,
)

from vea.web.application import Limits
from vea.web.upstream import TorchServeUpstream

pytestmark = pytest.mark.integration

RAW = {"Content-Type": "application/octet-stream"}
ASK = "/predictions/tiny"


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Stub, str]]:
    with torchserve(GOOD) as stub, gateway(stub.upstream) as address:
        yield stub, address


@pytest.fixture
def stub(shared: tuple[Stub, str]) -> Stub:
    shared[0].seen.clear()
    return shared[0]


@pytest.fixture
def base(shared: tuple[Stub, str]) -> str:
    return shared[1]


@pytest.fixture
def other() -> Iterator[Stub]:
    """For gateways with settings of their own."""
    with torchserve(GOOD) as stub:
        yield stub


@pytest.mark.parametrize(
    "path",
    [
        *("/token", "/token?type=inference", "/workflows", "/workflows/a", "/wfpredict/a"),
        *("/ping", "/metrics/x", "/models/tiny", "/models/tiny/0.1/set-default", "/v1/models/a"),
        *("/api-description", "/predictions", "/predictions/", "/predictions/tiny/0.1/more"),
        *("/predictions/..", "/predictions/../models", "/predictions/tiny/..", "/predictions/./a"),
        *("/predictions/%2e%2e/models", "/predictions/..%2f..", "/predictions/a%2fb", "/%2e%2e"),
        *("/predictions/tiny%00", "/predictions/tiny%0d%0aX: y", "/predictions/..%5c..%5cmodels"),
        *("//models", "/predictions//tiny", "/predictions/tiny//", "//evil.example/predictions/a"),
        *("/predictions/tiny;a=b", "/predictions/tiny@evil", "/predictions/.hidden", "/docs"),
        *("/assets/../keys.py", "/samples/..%2fweb%2fkeys.py", "/samples//etc/passwd"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_no_other_path_leads_to_torchserve(base: str, stub: Stub, method: str, path: str) -> None:
    status, answer, _ = send(base, method, path.replace(" ", "%20"), b"x", RAW)
    assert status in (404, 405)
    assert reason(answer)
    assert stub.seen == []


def test_an_address_in_the_request_line_is_not_followed(base: str, stub: Stub) -> None:
    for target in (b"http://127.0.0.1:1/models", b"*", b"evil.example:80"):
        received = send_raw(
            base, b"POST " + target + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        )
        assert received.split()[1] in (b"400", b"404"), received
    assert stub.seen == []


@pytest.mark.parametrize(
    "head",
    [
        "Content-Length: 1\r\nContent-Length: 40",
        "Content-Length: 1\r\nContent-Length: 1",
        "Content-Length: 1\r\ncontent-length: 1",
        "Content-Length: 1, 40",
        "Content-Length: +1",
        "Content-Length: -1",
        "Content-Length: 1\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nX: y\r\nContent-Length: 1",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding : chunked",
        "Content-Length : 1",
        " Folded: 1",
        "Host: evil.example",
    ],
)
@pytest.mark.threat("T1")
def test_a_request_that_could_be_read_in_two_ways_is_not_passed_on(
    base: str, stub: Stub, head: str
) -> None:
    hidden = b"DELETE /models/tiny HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    request = f"POST {ASK} HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}\r\nConnection: close\r\n\r\n"
    received = send_raw(base, request.encode() + b"x" + hidden)
    assert received.split()[1] in (b"400", b"421", b"501"), received
    assert stub.seen == []


@pytest.mark.parametrize("head", ["Content-Length: 1", "Transfer-Encoding: chunked"])
@pytest.mark.threat("T1")
def test_a_second_request_on_the_connection_is_read_as_strictly(
    base: str, stub: Stub, head: str
) -> None:
    start = f"POST {ASK} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    first = f"{start}Content-Length: 1\r\n\r\nx"
    second = f"{start}Content-Length: 1\r\n{head}\r\n\r\nx"
    received = send_raw(base, (first + second).encode())
    assert received.startswith(b"HTTP/1.1 200")
    assert re.findall(rb"HTTP/1.1 (\d+) ", received) == [b"200", b"400"]
    assert len(stub.seen) == 1


def test_of_a_clients_headers_only_type_and_wish_go_through(base: str, stub: Stub) -> None:
    sent = {
        **RAW,
        "Authorization": "Bearer mine",
        "X-Explain": "true",
        "Cookie": "a=b",
        "Describe": "true",
        "explain": "true",
        "X-Forwarded-For": "192.0.2.1",
        "Proxy-Authorization": "Basic eA==",
        "TE": "trailers",
        "Upgrade": "h2c",
        "Connection": "keep-alive, Upgrade, Authorization, X-Explain",
        "Expect": "something",
    }
    assert send(base, "POST", ASK, b"an image", sent)[0] == 200
    (seen,) = stub.seen
    received = {name.lower(): value for name, value in seen.headers}
    assert sum(name.lower() == "authorization" for name, _ in seen.headers) == 1
    assert received["authorization"] == "Bearer the-inference-key"
    assert received["x-explain"] == "true"
    assert received["content-type"] == "application/octet-stream"
    foreign = {"cookie", "describe", "explain", "x-forwarded-for", "te", "upgrade", "expect"}
    assert not foreign & set(received)
    assert "proxy-authorization" not in received
    assert seen.body == b"an image"


def test_a_cookie_of_one_answer_does_not_go_out_with_the_next_request(
    base: str, stub: Stub
) -> None:
    for _ in range(2):  # the stand-in sets one with each answer
        assert send(base, "POST", ASK, b"an image", RAW)[0] == 200
    assert not any(name.lower() == "cookie" for seen in stub.seen for name, _ in seen.headers)


def test_of_torchserves_headers_none_goes_through(base: str) -> None:
    _, answer, headers = send(base, "POST", ASK, b"an image", RAW)
    assert answer == {"emotion": "awe"}
    assert not {"x-inside", "set-cookie", "server"} & set(headers)
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"


def test_every_answer_carries_the_headers_that_protect_a_browser(base: str) -> None:
    for path in ("/", "/nothing", "/healthz", "/samples/cat.webp", ASK):
        headers = send(base, "GET", path)[2]
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-frame-options"] == "DENY"
        assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://127.0.0.1"}, 403),
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Host": "localhost:80"}, 200),
        ({"Host": "localhost:80", "Origin": "http://localhost:80"}, 200),
    ],
)
@pytest.mark.threat("T7")
def test_without_keys_other_sites_and_other_names_are_refused(
    base: str, stub: Stub, headers: dict[str, str], expected: int
) -> None:
    assert send(base, "POST", ASK, b"an image", {**RAW, **headers})[0] == expected
    assert len(stub.seen) == (expected == 200)


@pytest.mark.parametrize("trouble", [QUEUE_FULL, WORKER_DIED, NO_MEMORY, OLD_KEY])
def test_what_passes_is_tried_again(trouble: tuple[int, object]) -> None:
    with torchserve(trouble, trouble, GOOD) as stub, gateway(stub.upstream) as base:
        assert send(base, "POST", ASK, b"an image", RAW)[0] == 200
        assert [seen.body for seen in stub.seen] == [b"an image"] * 3


def test_an_image_that_kills_every_worker_is_given_up() -> None:
    with torchserve(WORKER_DIED) as stub, gateway(stub.upstream) as base:
        status, answer, _ = send(base, "POST", ASK, b"an image", RAW)
        assert (status, len(stub.seen)) == (502, 3)
        assert "died" in reason(answer)


def test_a_queue_that_stays_full_is_503_with_a_time_to_come_again() -> None:
    limits = Limits(answer=0.5)
    with torchserve(QUEUE_FULL) as stub, gateway(stub.upstream, limits=limits) as base:
        status, answer, headers = send(base, "POST", ASK, b"an image", RAW)
        assert (status, headers["retry-after"]) == (503, "1")
        assert reason(answer)
        assert len(stub.seen) > 1


@pytest.mark.parametrize(("said", "expected"), [(UNKNOWN, 404), (TOO_LARGE, 413)])
def test_what_torchserve_says_without_our_form_gets_it(
    said: tuple[int, object], expected: int
) -> None:
    with torchserve(said) as stub, gateway(stub.upstream) as base:
        status, answer, _ = send(base, "POST", ASK, b"an image", RAW)
        assert (status, len(stub.seen)) == (expected, 1)
        assert reason(answer)


def test_a_model_that_does_not_answer_is_504() -> None:
    limits = Limits(answer=0.3)
    with torchserve(HANG) as stub, gateway(stub.upstream, limits=limits) as base:
        status, answer, _ = send(base, "POST", ASK, b"an image", RAW)
        assert status == 504
        assert reason(answer)


def test_no_torchserve_is_502_and_not_ready() -> None:
    upstream = TorchServeUpstream(lambda: None)
    with gateway(upstream, limits=Limits(answer=0.3)) as base:
        assert send(base, "POST", ASK, b"an image", RAW)[0] == 502
        status, answer, headers = send(base, "GET", "/readyz")
        assert (status, "retry-after" in headers) == (503, True)
        assert reason(answer)
        assert send(base, "GET", "/healthz")[0] == 200


def test_a_body_that_is_too_large_is_413_whether_it_says_so_or_not(other: Stub) -> None:
    with gateway(other.upstream, limits=Limits(body=1000)) as base:
        assert send(base, "POST", ASK, b"x" * 1000, RAW)[0] == 200
        assert send(base, "POST", ASK, b"x" * 1001, RAW)[0] == 413
        assert send(base, "POST", ASK, b"x" * 1001, {**RAW, "Content-Length": "1001"})[0] == 413
        head = f"POST {ASK} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        chunks = b"Transfer-Encoding: chunked\r\n\r\n" + b"200\r\n" + b"x" * 512 + b"\r\n"
        received = send_raw(base, head.encode() + chunks + chunks[30:] * 8 + b"0\r\n\r\n")
        assert received.startswith(b"HTTP/1.1 413"), received
        huge = b"Content-Length: " + b"9" * 40 + b"\r\n\r\n"
        assert send_raw(base, head.encode() + huge)[9:12] in (b"400", b"413")
        assert len(other.seen) == 1


def test_bodies_together_stay_within_their_memory(other: Stub) -> None:
    with gateway(other.upstream, limits=Limits(body=2000, memory=1500)) as base:
        status, answer, headers = send(base, "POST", ASK, b"x" * 1600, RAW)
        assert (status, headers["retry-after"]) == (503, "1")
        assert reason(answer)
        assert send(base, "POST", ASK, b"x" * 1400, RAW)[0] == 200  # all was given back


def test_a_slow_upload_ends_and_others_do_not_wait_for_it(other: Stub) -> None:
    with gateway(other.upstream, limits=Limits(upload=1.0, asking=1)) as base:
        slow: list[bytes] = []
        request = f"POST {ASK} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n"
        sending = threading.Thread(
            target=lambda: slow.append(
                send_raw(base, f"{request}Connection: close\r\n\r\nx".encode())
            )
        )
        sending.start()
        assert send(base, "POST", ASK, b"an image", RAW)[0] == 200
        sending.join(20)
        assert slow[0].startswith(b"HTTP/1.1 408"), slow


def test_a_head_that_never_ends_is_not_waited_for(other: Stub) -> None:
    with gateway(other.upstream, head_seconds=1) as base:
        for begun in (b"", b"POST /predic", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "):
            assert send_raw(base, begun, seconds=15) == b""


def test_more_than_may_wait_are_told_to_come_again() -> None:
    limits = Limits(asking=1, answer=3.0)
    with torchserve(HANG) as stub, gateway(stub.upstream, limits=limits) as base:
        first = threading.Thread(target=lambda: send(base, "POST", ASK, b"an image", RAW))
        first.start()
        while not stub.seen:
            threading.Event().wait(0.01)
        status, answer, headers = send(base, "POST", ASK, b"an image", RAW)
        assert (status, headers["retry-after"]) == (503, "1")
        assert "wait" in reason(answer)
        first.join(20)
