"""Servers that several modules of tests share: each takes seconds to start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from train.package import package
from vea.serving.server import TorchServe


@pytest.fixture(scope="session")
def tiny_server(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[TorchServe]:
    """A real TorchServe with a tiny model, for tests that leave it as they found it."""
    store = tmp_path_factory.mktemp("store")
    archive = package(tiny_model, store, name="tiny", version="0.1", card={"summary": "random"})
    with TorchServe.running(archive, tmp_path_factory.mktemp("serve")) as running:
        yield running
