"""The reverse proxy that `deploy/nginx` proposes: the way of a photo, refusals, the log."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from nginx_server import FOLDER, PREDICTIONS, WEB, Nginx, Recorder, rest, until
from torchserve_server import drawn_images

from handler.values.limits import ImageLimits
from train.package import default_serving
from vea.serving.server import TorchServe
from vea.web.server import HEAD_SECONDS

pytestmark = pytest.mark.integration

MIB = 1024 * 1024


def key(server: TorchServe) -> dict[str, str]:
    return {
        "Authorization": f"Bearer {server.client.token()}",
        "Content-Type": "application/octet-stream",
    }


def test_a_photo_passes_to_the_model_and_its_answer_back(
    tiny_server: TorchServe, tmp_path: Path
) -> None:
    image = drawn_images(1)[0]
    with Nginx.running(tmp_path / "nginx", torchserve=tiny_server.ports.inference) as nginx:
        for path in ("/predictions/tiny", "/predictions/tiny/0.1", "/explanations/tiny"):
            answer = nginx.ask(PREDICTIONS, "POST", path, body=image, headers=key(tiny_server))
            assert answer.status == 200, answer.body
            assert b'"probabilities"' in answer.body
            assert (b'"activation"' in answer.body) == path.startswith("/explanations")
        assert nginx.ask(PREDICTIONS, "POST", "/predictions/tiny", body=image).status == 400
        shown = (nginx.prefix / "vea.log").read_text()
        assert shown.count('"path":"/predictions/tiny"') == 2
        assert tiny_server.client.token() not in shown


@pytest.mark.threat("T3")
def test_the_largest_photo_passes_and_what_is_larger_does_not(
    tiny_server: TorchServe, tmp_path: Path
) -> None:
    image = drawn_images(1)[0]
    with Nginx.running(tmp_path / "nginx", torchserve=tiny_server.ports.inference) as nginx:
        for size, status in ((20 * MIB, 200), (21 * MIB, 413), (30 * MIB, 413)):
            answer = nginx.ask(
                PREDICTIONS,
                "POST",
                "/predictions/tiny",
                body=image.ljust(size, b"\0"),
                headers=key(tiny_server),
            )
            assert answer.status == status, size
            if status == 413:
                assert answer.reason


def test_limits_fit_those_of_the_server_behind(tiny_server: TorchServe) -> None:
    text = (FOLDER / "snippets" / "vea-server.conf").read_text()
    (limit,) = re.findall(r"client_max_body_size (\d+)m;", text)
    (taken,) = re.findall(r"max_request_size=(\d+)", tiny_server.directory.settings.read_text())
    assert int(taken) <= int(limit) * MIB
    assert ImageLimits().max_bytes < int(limit) * MIB
    text = (FOLDER / "snippets" / "vea-proxy.conf").read_text()
    (patience,) = re.findall(r"proxy_read_timeout (\d+)s;", text)
    assert int(patience) > default_serving()["responseTimeout"]
    # The gateway must not close a kept connection in the moment in which nginx uses it again.
    text = (FOLDER / "sites-available" / "vea-web.conf").read_text()
    (kept,) = re.findall(r"keepalive_timeout (\d+)s;", text)
    assert int(kept) < HEAD_SECONDS


@pytest.mark.threat("T5")
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


@pytest.mark.threat("T12")
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
