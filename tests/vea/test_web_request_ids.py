"""The gateway's request ids and traces: in answers, in its log, and on the way to TorchServe."""

from __future__ import annotations

import logging
import logging.config
import re
from collections.abc import Iterator

import pytest
from gateway_server import gateway, send
from torchserve_stub import GOOD, QUEUE_FULL, Stub, torchserve

from handler.telemetry import start_telemetry
from tests.otlp_receiver import receiver
from vea.commands.web import LOG
from vea.web.application import Limits

pytestmark = pytest.mark.integration

RAW = {"Content-Type": "application/octet-stream"}
ASK = "/predictions/tiny"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def stub() -> Iterator[Stub]:
    with torchserve(GOOD) as stub:
        yield stub


def received(stub: Stub) -> dict[str, str]:
    (seen,) = stub.seen
    return {name.lower(): value for name, value in seen.headers}


def test_each_request_has_an_id_of_its_own(stub: Stub) -> None:
    with gateway(stub.upstream) as base:
        answers = [send(base, "POST", ASK, b"image", RAW) for _ in range(2)]
        refused = send(base, "GET", "/nowhere")
    ids = [headers["x-request-id"] for _, _, headers in (*answers, refused)]
    assert len(set(ids)) == 3
    assert all(re.fullmatch("[0-9a-f]{16}", one) for one in ids)
    seen = [{n.lower(): v for n, v in one.headers}["x-request-id"] for one in stub.seen]
    assert seen == ids[:2]


@pytest.mark.parametrize("given", ["job-7.3_a", "x" * 64])
def test_a_clients_id_is_kept(stub: Stub, given: str) -> None:
    with gateway(stub.upstream) as base:
        _, _, headers = send(base, "POST", ASK, b"image", {**RAW, "X-Request-Id": given})
    assert headers["x-request-id"] == received(stub)["x-request-id"] == given


@pytest.mark.parametrize(
    "given", ["", "x" * 65, "two words", "a\tb", "ä".encode().decode("latin1")]
)
def test_what_is_no_id_is_replaced(stub: Stub, given: str) -> None:
    with gateway(stub.upstream) as base:
        _, _, headers = send(base, "POST", ASK, b"image", {**RAW, "X-Request-Id": given})
    assert re.fullmatch("[0-9a-f]{16}", headers["x-request-id"])
    assert received(stub)["x-request-id"] == headers["x-request-id"]


def test_a_trace_context_goes_through_without_the_extra_if_it_is_one(stub: Stub) -> None:
    with gateway(stub.upstream) as base:
        send(base, "POST", ASK, b"image", {**RAW, "traceparent": PARENT})
        send(base, "POST", ASK, b"image", {**RAW, "traceparent": f"{PARENT}-more"})
    first, second = ({n.lower(): v for n, v in seen.headers} for seen in stub.seen)
    assert first["traceparent"] == PARENT
    assert "traceparent" not in second


def test_every_line_of_the_log_has_the_id(stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    loggers = [logging.getLogger(name) for name in LOG["loggers"]]
    before = [(one, one.handlers[:], one.level, one.propagate) for one in loggers]
    try:
        with gateway(stub.upstream, log_config=LOG) as base:
            send(base, "POST", ASK, b"image", {**RAW, "X-Request-Id": "mine"})
            send(base, "GET", "/nowhere", headers={"X-Request-Id": "other"})
    finally:
        for one, handlers, level, propagate in before:
            one.handlers[:], one.level, one.propagate = handlers, level, propagate
    lines = [line for line in capsys.readouterr().err.splitlines() if "vea.web" in line]
    assert len(lines) == 2
    assert "vea.web.access [mine] POST /predictions/tiny 200" in lines[0]
    assert "vea.web.access [other] GET /nowhere 404" in lines[1]


def test_a_request_is_a_span_whose_context_goes_to_torchserve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with receiver() as found, torchserve(QUEUE_FULL, GOOD) as stub:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        telemetry = start_telemetry("vea-web")
        limits = Limits(answer=10.0)
        with gateway(stub.upstream, limits=limits, telemetry=telemetry) as base:
            asked = {**RAW, "traceparent": PARENT, "X-Request-Id": "mine"}
            assert send(base, "POST", ASK, b"image", asked)[0] == 200
            assert send(base, "GET", "/nowhere")[0] == 404
            assert send(base, "GET", "/healthz")[0] == 200
        telemetry.close()
    first, second = found.spans
    assert (first.name, first.parent_id) == ("POST", "b7ad6b7169203331")
    assert first.attributes == {
        "http.request.method": "POST",
        "http.route": "/predictions",
        "http.response.status_code": 200,
        "vea.request_id": "mine",
    }
    assert second.attributes["http.route"] == "other"
    assert second.trace_id != first.trace_id
    # Both tries belong to the one request.
    contexts = [{n.lower(): v for n, v in one.headers}["traceparent"] for one in stub.seen]
    assert contexts == [f"00-{first.trace_id}-{first.span_id}-01"] * 2
    counts = {p["http.route"]: n for p, n in found.metrics["http.server.request.duration"]}
    assert counts == {"/predictions": 1, "other": 1}, "probes are not counted either"
