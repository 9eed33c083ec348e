"""A part of the hostile requests to a real TorchServe; `python -m tests.trials.hostile` is all."""

from __future__ import annotations

import pytest
from torchserve_server import drawn_images

from tests.trials.hostile import attack, verdict, worker_memory
from tests.trials.hostile_inputs import Hostile, hostile_inputs
from vea.serving.server import TorchServe

pytestmark = pytest.mark.integration

COUNT = 160


@pytest.mark.long
@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.long)])
def test_no_hostile_request_ends_a_worker_or_goes_without_a_reason(
    tiny_server: TorchServe, step: int
) -> None:
    requests = hostile_inputs(COUNT, heavy=False)[::step]
    assert len({request.name for request in requests}) > COUNT / step * 0.9
    photo = Hostile("a good photo", drawn_images(1)[0])
    before = worker_memory(tiny_server)
    assert len(before) == 1
    # Among them good ones, which must not notice.
    outcome = attack(tiny_server, [*requests, photo, photo])
    assert verdict(before, worker_memory(tiny_server), outcome) == []
    assert outcome.statuses[200] > 2
    assert outcome.statuses[415] > 10 / step
    assert outcome.statuses[422] > 10 / step
    assert tiny_server.predict(photo.body)[0] == 200
