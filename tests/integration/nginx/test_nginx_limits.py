"""How much and how slowly one client may ask the reverse proxy, beside others."""

from __future__ import annotations

import contextlib
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from nginx_server import UNLIMITED, WEB, Nginx, Recorder, rest, until

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    ("mine", "also_mine", "somebody_else"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2:ffff::7", "2001:db8:1:3:3:4:5:6"),
        ("2001:db8::1", "2001:db8::2", "2001:db8:1::1"),
    ],
)
@pytest.mark.threat("T3")
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


@pytest.mark.threat("T3")
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


@pytest.mark.threat("T3")
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
