"""A short run of the load trial: mixed traffic, a switch and a return, workers that die."""

from __future__ import annotations

from pathlib import Path

import pytest
from other_versions import other_version

from tests.trials.serving_load import trial
from train.package import package

pytestmark = [pytest.mark.integration, pytest.mark.long]


def test_forty_seconds_of_mixed_traffic_lose_nothing_and_tell_nothing_wrong(
    tiny_model: Path, tmp_path: Path
) -> None:
    first = package(tiny_model, tmp_path, name="tiny", version="1.0", card={})
    second = other_version(first, tmp_path / "tiny-2.0.mar", version="2.0", shift=1.0)
    report = trial(first, second, tmp_path / "state", seconds=40, kill_every=11)
    assert report["faults"] == []
    assert set(report["versions"]) == {"1.0", "2.0"}
    assert report["counts"]["kills"] >= 1
    assert report["counts"]["refused_415"] > 0
    assert report["counts"]["refused_422"] > 0
