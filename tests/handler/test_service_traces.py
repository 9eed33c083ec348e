"""The handler's request ids in its log lines, and its spans, with a stand-in for TorchServe."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from handler.serving.log_lines import RequestIds, request_id
from handler.serving.service import VisualEmotionService
from tests.handler.test_service import Context
from tests.otlp_receiver import receiver

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, "own"),
        ({"X-Request-Id": "gateways"}, "gateways"),
        ({"x-request-id": "a" * 65}, "own"),
        ({"X-Request-Id": "two\nlines"}, "own"),
        ({"X-Request-Id": {"content-type": "text/plain"}}, "own"),
    ],
)
def test_the_id_is_the_gateways_or_torchserves(headers: dict[str, object], expected: str) -> None:
    assert request_id(headers, "own") == expected
    assert request_id({}, None) == "-"


def test_lines_are_labelled_once_and_only_while_a_batch_is_answered() -> None:
    ids = RequestIds()

    def told(text: str, *values: object) -> str:
        record = logging.LogRecord("a", logging.WARNING, "f", 1, text, values, None)
        assert ids.filter(record)
        assert ids.filter(record), "of a second output"
        return record.getMessage()

    with ids.answering(["a", "b-1"]):
        assert told("%d%% of %s", 5, "it") == "[a b-1] 5% of it"
    assert told("idle %s", "now") == "idle now"


def test_a_failure_is_logged_with_the_requests_it_may_concern(
    tiny_model: Path, photo, encode, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    image = encode(photo(1), "PNG")
    service = VisualEmotionService()
    context = Context(tiny_model, [{"X-Request-Id": "first"}, {}])
    service.initialize(context)
    network = service.responder.predictor.network
    network.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("broken")))
    service.handle([{"body": image}, {"body": image}], context)
    assert context.statuses == [500, 500]
    assert caplog.messages
    assert all(line.startswith("[first own-1] ") for line in caplog.messages)


@pytest.mark.integration
def test_each_request_is_a_span_under_its_own_parent(
    tiny_model: Path, photo, encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = [{"traceparent": PARENT, "X-Request-Id": "mine"}, {}, {"TraceParent": "nonsense"}]
    context = Context(tiny_model, headers)
    rows = [{"body": encode(photo(1), "PNG")}, {}, {"body": encode(photo(2), "PNG")}]
    with receiver() as found:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        service = VisualEmotionService()
        service.initialize(context)
        service.handle(rows, context)
        service.telemetry.close()
    first, second, third = found.named("vea.handle")
    assert (first.trace_id, first.parent_id) == (PARENT[3:35], PARENT[36:52])
    assert second.parent_id == third.parent_id == ""
    told = [span.attributes for span in (first, second, third)]
    assert [one["vea.request_id"] for one in told] == ["mine", "own-1", "own-2"]
    assert [one["http.response.status_code"] for one in told] == [200, 400, 200]
    assert first.attributes["vea.batch_size"] == 3
    assert first.attributes["vea.network_seconds"] > 0
