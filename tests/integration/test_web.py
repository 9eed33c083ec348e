"""The gateway before a real TorchServe: the same answers, its own errors, and nothing else."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gateway_server import gateway, reason, send, send_raw
from torchserve_server import all_at_once, drawn_images, form

from vea.serving.server import TorchServe
from vea.web.keys import KeyRing, new_key

pytestmark = pytest.mark.integration
RAW = {"Content-Type": "application/octet-stream"}


@pytest.fixture(scope="module")
def server(tiny_server: TorchServe) -> TorchServe:
    return tiny_server


@pytest.fixture(scope="module")
def base(server: TorchServe) -> Iterator[str]:
    with gateway(server.directory.state) as address:
        yield address


@pytest.fixture(scope="module")
def image() -> bytes:
    return drawn_images(1)[0]


def secrets_of(server: TorchServe) -> list[str]:
    keys = json.loads(server.directory.keys.read_text())
    return [entry["key"] for entry in keys.values()]


@pytest.mark.parametrize("path", ["/predictions/tiny", "/predictions/tiny/0.1"])
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_an_answer_is_torchserves_own(
    base: str, server: TorchServe, image: bytes, path: str, method: str
) -> None:
    status, answer, headers = send(base, method, path, image, RAW)
    assert (status, headers["content-type"]) == (200, "application/json")
    _, expected = server.predict(image)
    assert answer["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-4)
    assert answer["model"] == expected["model"]


@pytest.mark.parametrize("path", ["/explanations/tiny", "/explanations/tiny/0.1"])
def test_an_explanation_says_why(base: str, image: bytes, path: str) -> None:
    status, answer, _ = send(base, "POST", path, image, RAW)
    assert status == 200
    assert answer["objects"]
    assert answer["activation"]


def test_the_header_asks_for_an_explanation_and_its_absence_does_not(
    base: str, image: bytes
) -> None:
    _, plain, _ = send(base, "POST", "/predictions/tiny", image, RAW)
    _, why, _ = send(base, "POST", "/predictions/tiny", image, {**RAW, "X-Explain": "true"})
    assert ("objects" in plain, "objects" in why) == (False, True)


def test_a_form_with_one_file_is_an_image(base: str, image: bytes) -> None:
    body, headers = form([("anything", image)])
    status, answer, _ = send(base, "POST", "/predictions/tiny", body, headers)
    assert status == 200
    _, plain, _ = send(base, "POST", "/predictions/tiny", image, RAW)
    assert answer["probabilities"] == pytest.approx(plain["probabilities"], abs=1e-4)


def test_chunks_without_a_length_are_an_image(base: str, image: bytes) -> None:
    head = b"POST /predictions/tiny HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
    chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (len(image), image)
    received = send_raw(base, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk)
    assert received.startswith(b"HTTP/1.1 200"), received


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        ("application/octet-stream", b"", 400),
        ("application/octet-stream", b"no image", 415),
        ("image/jpeg", b"<html>", 415),
        ("text/plain", b"a sunset", 415),
        ("application/x-www-form-urlencoded", b"a=b", 415),
        ("multipart/form-data", b"no boundary", 400),
        ("multipart/form-data; boundary=x", b"--x\r\nbroken", 400),
        ("application/json", b"", 400),
    ],
)
def test_what_is_no_image_is_refused_with_a_reason(
    base: str, kind: str, body: bytes, expected: int
) -> None:
    status, answer, _ = send(base, "POST", "/predictions/tiny", body, {"Content-Type": kind})
    assert status == expected, answer
    assert reason(answer)


def test_a_form_with_two_files_is_refused(base: str, image: bytes) -> None:
    body, headers = form([("one", image), ("two", image)])
    status, answer, _ = send(base, "POST", "/predictions/tiny", body, headers)
    assert status == 400
    assert "2 parts" in reason(answer)


def test_many_at_once_are_all_answered(base: str) -> None:
    def ask(content: bytes) -> Any:
        return lambda: send(base, "POST", "/predictions/tiny", content, RAW)[0]

    assert all_at_once([ask(content) for content in drawn_images(24)]) == [200] * 24


@pytest.mark.parametrize(
    "path", ["/predictions/none", "/predictions/tiny/9.9", "/predictions/ti ny".replace(" ", "%20")]
)
def test_an_unknown_model_is_404(base: str, image: bytes, path: str) -> None:
    status, answer, _ = send(base, "POST", path, image, RAW)
    assert status == 404
    assert reason(answer)


def test_a_method_that_is_not_for_a_path_is_405_and_says_which_are(base: str) -> None:
    status, answer, headers = send(base, "DELETE", "/predictions/tiny")
    assert status == 405
    assert {name.strip() for name in headers["allow"].split(",")} == {"POST", "PUT"}
    assert reason(answer)


def test_models_are_listed_with_digest_and_default(base: str, server: TorchServe) -> None:
    status, answer, _ = send(base, "GET", "/models")
    assert status == 200
    (model,) = answer["models"]
    assert (model["name"], model["default"]) == ("tiny", "0.1")
    (version,) = model["versions"]
    assert version["ready"] is True
    assert version["digest"] == server.predict(drawn_images(1)[0])[1]["model"]["digest"]


def test_health_and_readiness(base: str) -> None:
    assert send(base, "GET", "/healthz")[:2] == (200, {"status": "alive"})
    assert send(base, "GET", "/readyz")[:2] == (200, {"status": "ready"})


def test_figures_count_what_was_asked(base: str, image: bytes) -> None:
    send(base, "POST", "/predictions/tiny", image, RAW)
    _, text, _ = send(base, "GET", "/metrics")
    assert b'vea_web_requests_total{route="/predictions",status="200"}' in text
    assert b"secret" not in text


def test_json_may_hold_several_images_and_one_of_them_be_broken(base: str, image: bytes) -> None:
    images = [base64.b64encode(content).decode() for content in (image, b"no image")]
    document = json.dumps({"images": images}).encode()
    headers = {"Content-Type": "application/json; charset=utf-8"}
    status, answer, _ = send(base, "POST", "/predictions/tiny", document, headers)
    assert status == 200
    good, bad = answer["predictions"]
    assert good["emotion"] in good["probabilities"]
    assert bad["error"]["code"] == 415


def test_a_wish_that_is_neither_true_nor_false_is_refused(base: str, image: bytes) -> None:
    wish = {**RAW, "X-Explain": "maybe"}
    assert send(base, "POST", "/predictions/tiny", image, wish)[0] == 400


@pytest.mark.threat("T7")
def test_nothing_that_is_sent_holds_a_key(base: str, server: TorchServe, image: bytes) -> None:
    answers = [
        send(base, "GET", path)
        for path in ("/", "/models", "/metrics", "/openapi.json", "/readyz", "/healthz", "/token")
    ]
    answers.append(send(base, "POST", "/explanations/tiny", image, RAW))
    answers.append(send(base, "POST", "/predictions/none", image, RAW))
    for secret in secrets_of(server):
        assert all(secret not in repr(answer) for answer in answers)


@pytest.mark.threat("T4")
def test_with_keys_predictions_want_one_of_them(
    server: TorchServe, image: bytes, tmp_path: Path
) -> None:
    key, line = new_key("phone")
    (tmp_path / "keys").write_text(line + "\n")
    with gateway(server.directory.state, keys=KeyRing(tmp_path / "keys")) as guarded:
        for path in ("/predictions/tiny", "/explanations/tiny/0.1"):
            assert send(guarded, "POST", path, image, RAW)[0] == 401
            wrong = {**RAW, "Authorization": f"Bearer {secrets_of(server)[0]}"}
            assert send(guarded, "POST", path, image, wrong)[0] == 401
            right = {**RAW, "Authorization": f"Bearer {key}"}
            assert send(guarded, "POST", path, image, right)[0] == 200
        assert send(guarded, "GET", "/models")[0] == 401
        assert send(guarded, "GET", "/metrics")[0] == 401
        assert send(guarded, "GET", "/")[0] == 200
        assert send(guarded, "GET", "/readyz")[0] == 200
        (tmp_path / "keys").write_text("other " + new_key("other")[1].split()[1] + "\n")
        assert send(guarded, "POST", "/predictions/tiny", image, right)[0] == 401
