"""A part of the hostile requests to a real TorchServe; `python -m tests.trials.hostile` is all."""

from __future__ import annotations

from pathlib import Path

import pytest
from torchserve_server import drawn_images

from tests.trials.hostile import attack, verdict, worker_memory
from tests.trials.hostile_inputs import Hostile, hostile_inputs
from train.package import package
from vea.serving.server import TorchServe

pytestmark = pytest.mark.integration

COUNT = 160


def test_no_hostile_request_ends_a_worker_or_goes_without_a_reason(
    tiny_model: Path, tmp_path: Path
) -> None:
    archive = package(tiny_model, tmp_path, name="tiny", version="1", card={})
    requests = hostile_inputs(COUNT, heavy=False)
    assert len({request.name for request in requests}) > COUNT * 0.9
    with TorchServe.running(archive, tmp_path / "state", workers=1) as server:
        photo = Hostile("a good photo", drawn_images(1)[0])
        before = worker_memory(server)
        assert len(before) == 1
        # Among them good ones, which must not notice.
        outcome = attack(server, [*requests, photo, photo])
        assert verdict(before, worker_memory(server), outcome) == []
        assert outcome.statuses[200] > 2
        assert outcome.statuses[415] > 10
        assert outcome.statuses[422] > 10
        assert server.predict(photo.body)[0] == 200
