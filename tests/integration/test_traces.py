"""One trace from a night through the gateway to a real TorchServe, and what scales on its queue."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from gateway_server import gateway, send
from torchserve_server import drawn_images

from handler.telemetry import start_telemetry
from jobs.run.driver import score_list
from jobs.values.job import EndpointSettings, ScoreJob
from tests.otlp_receiver import Receiver, receiver
from tests.shipped import REPOSITORY
from vea.serving.server import TorchServe

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def watched(tmp_path_factory, tiny_archive: Path) -> Iterator[tuple[TorchServe, Receiver]]:
    """A TorchServe whose workers send to a receiver."""
    with receiver() as found, pytest.MonkeyPatch.context() as patch:
        for name, value in found.environment.items():
            patch.setenv(name, value)
        state = tmp_path_factory.mktemp("watched")
        with TorchServe.running(tiny_archive, state, workers=1) as server:
            yield server, found


@pytest.fixture(scope="module")
def scored(watched: tuple[TorchServe, Receiver], tmp_path_factory) -> Receiver:
    """What arrived of a night of three photos through the gateway."""
    server, found = watched
    folder = tmp_path_factory.mktemp("night")
    for number, image in enumerate(drawn_images(3)):
        (folder / f"{number}.jpg").write_bytes(image)
    (folder / "list.txt").write_text("0.jpg\n1.jpg\n2.jpg\n")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in found.environment.items():
            patch.setenv(name, value)
        web, night = start_telemetry("vea-web"), start_telemetry("vea-score")
    with gateway(server.directory.state, telemetry=web) as base:
        job = ScoreJob(
            str(folder / "list.txt"), str(folder / "out"), endpoint=EndpointSettings(base, "tiny")
        )
        assert score_list(job, telemetry=night).ok == 3
    web.close()
    night.close()
    found.wait_for("vea.handle", 3)
    return found


def test_the_trace_of_a_night_reaches_the_handler(scored: Receiver) -> None:
    (night,) = scored.named("vea.score")
    asked = [s for s in scored.named("POST") if s.trace_id == night.trace_id]
    assert sum(s.parent_id == night.span_id for s in asked) >= 3, "a request for each photo"
    handled = [s for s in scored.named("vea.handle") if s.trace_id == night.trace_id]
    assert {s.service for s in (night, *asked, *handled)} == {"vea-score", "vea-web", "vea-handler"}
    parents = {s.span_id: s.attributes["vea.request_id"] for s in asked}
    for span in handled:
        assert parents[span.parent_id] == span.attributes["vea.request_id"]
    assert {s.parent_id for s in handled} == set(parents)


def test_what_the_autoscaler_asks_for_is_counted_by_torchserve(
    watched: tuple[TorchServe, Receiver], scored: Receiver
) -> None:
    server, _ = watched
    with gateway(server.directory.state) as base:
        _, content, _ = send(base, "GET", "/metrics")
    text = content.decode()
    assert "vea_web_asking" in text
    documents = yaml.safe_load_all((REPOSITORY / "deploy/keda/scaled-object.yaml").read_text())
    (scaled,) = [one for one in documents if one["kind"] == "ScaledObject"]
    query = scaled["spec"]["triggers"][0]["metadata"]["query"]
    (name,) = re.findall(r"ts_\w+", query)
    assert f"# TYPE {name} counter" in text
    labels = re.findall(r"(\w+)=", query)
    line = next(line for line in text.splitlines() if line.startswith(f"{name}{{"))
    assert all(f'{label}="' in line for label in labels)
    assert float(line.rsplit(" ", 1)[1]) > 0
