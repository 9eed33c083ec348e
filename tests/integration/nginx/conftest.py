"""The proposed sites in a real nginx, with a service behind them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from nginx_server import FROM_ANYWHERE, UNLIMITED, Nginx, Recorder


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with Recorder.running() as running:
        yield running


@pytest.fixture
def nginx(recorder: Recorder, tmp_path: Path) -> Iterator[Nginx]:
    """Both sites, with a recorder behind each, and no limits of how much one may ask."""
    with Nginx.running(
        tmp_path / "nginx", web=recorder.port, torchserve=recorder.port, changes=UNLIMITED
    ) as running:
        yield running


@pytest.fixture
def limited(recorder: Recorder, tmp_path: Path) -> Iterator[Nginx]:
    """The same with its limits, for clients from anywhere, and a slower pace than tests ask at."""
    with Nginx.running(
        tmp_path / "nginx",
        web=recorder.port,
        torchserve=recorder.port,
        changes={"rate=10r/s": "rate=1r/s", "burst=40": "burst=4"},
        extra=FROM_ANYWHERE,
    ) as running:
        yield running
