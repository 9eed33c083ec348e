"""Telemetry: silent unless asked for, and then real spans and figures at a real receiver."""

from __future__ import annotations

import subprocess
import sys

import pytest

from handler.client.exchange import Exchange
from handler.client.keys import FixedKey
from handler.client.retry import RetryPolicy
from handler.telemetry import (
    SilentTelemetry,
    current_traceparent,
    start_telemetry,
    valid_traceparent,
)
from tests.otlp_receiver import Receiver, receiver

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
VARIABLES = ("", "_TRACES", "_METRICS")


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in VARIABLES:
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP{kind}_ENDPOINT", raising=False)


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch):
    with receiver() as found:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        yield found


@pytest.mark.parametrize(
    "text",
    [
        *(None, 5, "", PARENT[:-1], f"{PARENT}0", PARENT.upper(), f"{PARENT}\n", f"{PARENT}-00"),
        *(PARENT.replace("00-", "01-", 1), PARENT.replace("b7ad6b7169203331", "0" * 16)),
        *(PARENT.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32), f"{PARENT}\r\nX: y"),
    ],
)
def test_what_is_no_trace_context_is_not_passed_on(text: object) -> None:
    assert valid_traceparent(text) is None
    assert valid_traceparent(PARENT) == PARENT


@pytest.mark.integration
def test_nothing_is_imported_where_no_receiver_is_named() -> None:
    code = (
        "import sys; from handler.telemetry import start_telemetry\n"
        "import handler.client, handler.serving.log_lines, jobs.monitoring.trace\n"
        "print(type(start_telemetry('x')).__name__)\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["SilentTelemetry", "[]"]


def test_without_the_extra_or_where_it_is_disabled_it_is_silent(
    received: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("OTEL_SDK_DISABLED", "true")
        assert isinstance(start_telemetry("vea"), SilentTelemetry)
    for name in [name for name in sys.modules if name.split(".")[0] == "opentelemetry"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    silent = start_telemetry("vea")
    assert isinstance(silent, SilentTelemetry)
    with silent.span("work", traceparent=PARENT) as span:
        assert span.traceparent == PARENT, "a parent's context goes on"
    silent.close()


def test_spans_have_parents_here_and_in_other_processes(received: Receiver) -> None:
    telemetry = start_telemetry("vea-test")
    with telemetry.span("outer", traceparent=PARENT, kind="server") as outer:
        with telemetry.span("inner", attributes={"one": 1}) as inner:
            inner.set("two", "2")
            assert current_traceparent() == inner.traceparent
        telemetry.record("earlier", seconds=2.5, attributes={"done": True})
    telemetry.record("other", seconds=0.0)
    telemetry.close()
    found = {span.name: span for span in received.spans}
    assert found["outer"].trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert found["outer"].parent_id == "b7ad6b7169203331"
    assert outer.traceparent == f"00-{found['outer'].trace_id}-{found['outer'].span_id}-01"
    assert found["inner"].parent_id == found["earlier"].parent_id == found["outer"].span_id
    assert found["inner"].attributes == {"one": 1, "two": "2"}
    assert found["earlier"].seconds == pytest.approx(2.5)
    assert found["other"].trace_id != found["outer"].trace_id
    assert {span.service for span in received.spans} == {"vea-test"}


def test_counters_and_durations_arrive(received: Receiver, monkeypatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    telemetry = start_telemetry("vea-test")
    for number in (2, 3):
        telemetry.count("vea.images", number, {"vea.status": "ok"})
        telemetry.measure("vea.duration", 0.5)
    with telemetry.span("any"):
        pass
    telemetry.close()
    assert received.metrics["vea.images"] == [({"vea.status": "ok"}, 5)]
    assert received.metrics["vea.duration"] == [({}, 2)]
    assert received.spans[0].service == "mine"


def test_a_receiver_that_is_away_does_not_fail_the_work(monkeypatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    telemetry = start_telemetry("vea-test")
    with telemetry.span("work"):
        telemetry.count("vea.images", 1)
    telemetry.close()


def headers_sent(**options: str | None) -> dict[str, str]:
    exchange = Exchange(
        "http://127.0.0.1:1",
        model="m",
        version=None,
        keys=FixedKey(None),
        timeout=1.0,
        policy=RetryPolicy(),
        **options,
    )
    return dict(next(exchange.predict(b"image", explain=False)).headers)


def test_a_client_sends_the_span_around_it_or_the_context_it_was_given(
    received: Receiver,
) -> None:
    assert "traceparent" not in headers_sent()
    assert "traceparent" not in headers_sent(traceparent="no context")
    assert headers_sent(traceparent=PARENT)["traceparent"] == PARENT
    telemetry = start_telemetry("vea-test")
    with telemetry.span("around") as span:
        assert headers_sent(traceparent=PARENT)["traceparent"] == span.traceparent
    telemetry.close()
