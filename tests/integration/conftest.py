"""Servers that several modules of tests share: each takes seconds to start."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest
from marked_service import BATCH, LIMIT, QUEUE
from torchserve_server import with_other_file

from train.package import default_serving, package
from vea.serving.server import TorchServe


@pytest.fixture(scope="session")
def tiny_archive(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """The tiny model as an archive."""
    store = tmp_path_factory.mktemp("store")
    return package(tiny_model, store, name="tiny", version="0.1", card={"summary": "random"})


@pytest.fixture(scope="session")
def tiny_server(
    tmp_path_factory: pytest.TempPathFactory, tiny_archive: Path
) -> Iterator[TorchServe]:
    """A real TorchServe with a tiny model, for tests that leave it as they found it."""
    state = tmp_path_factory.mktemp("serve")
    with TorchServe.running(tiny_archive, state, workers=1) as running:
        yield running


@pytest.fixture(scope="session")
def marked_archive(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A tiny model that does harm where an image says so: see ``marked_service``.

    Its queue, its batches and its time limit are small.
    """
    folder = tmp_path_factory.mktemp("marked")
    serving = {
        **default_serving(),
        "batchSize": BATCH,
        "jobQueueSize": QUEUE,
        "responseTimeout": LIMIT,
        "startupTimeout": 120,
    }
    packed = package(tiny_model, folder, name="tiny", version="0.1", card={}, serving=serving)
    code = Path(__file__).with_name("marked_service.py").read_text()
    return with_other_file(packed, folder / "marked.mar", name="service.py", content=code)


@pytest.fixture(scope="session")
def marked_server(
    tmp_path_factory: pytest.TempPathFactory, marked_archive: Path
) -> Iterator[TorchServe]:
    """A real TorchServe with it, which answers again after each test."""
    with TorchServe.running(marked_archive, tmp_path_factory.mktemp("serve")) as running:
        yield running


@pytest.fixture(scope="module")
def only_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One cluster at a time on this machine, since `--ray auto` takes any that runs."""
    base = tmp_path_factory.getbasetemp()
    with (base.parent / "ray.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
