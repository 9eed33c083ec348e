"""What the reverse proxy does about TLS and the names of its sites."""

from __future__ import annotations

import re
import socket
import ssl
from pathlib import Path

import pytest
from nginx_server import SITES, WEB, Nginx, Recorder

pytestmark = pytest.mark.integration


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("site", SITES)
@pytest.mark.threat("T2")
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
@pytest.mark.threat("T2")
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


@pytest.mark.threat("T2")
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
