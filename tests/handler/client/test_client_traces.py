"""Requests of both clients carry the trace of the span around the call, however they are sent."""

from __future__ import annotations

import asyncio

import pytest
from scripted_service import Said, scripted

from handler.client import AsyncClient, Client
from handler.telemetry import start_telemetry
from tests.otlp_receiver import receiver

pytestmark = pytest.mark.integration

IMAGES = [b"one", b"two", b"three"]


async def ask_all(url: str) -> None:
    async with AsyncClient(url, model="m") as client:
        async for _ in client.predict_many(IMAGES):
            pass


def test_many_requests_belong_to_the_trace_around_them(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver() as found, scripted(Said()) as service:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        telemetry = start_telemetry("vea-test")
        with telemetry.span("around") as span:
            with Client(service.url, model="m") as client:
                list(client.predict_many(IMAGES))
            asyncio.run(ask_all(service.url))
        with Client(service.url, model="m") as client:
            client.predict(b"image")
        telemetry.close()
    sent = [heard.headers.get("traceparent") for heard in service.heard]
    assert sent == [span.traceparent] * 6 + [None]
