"""Photos, the selector that reads them, and caches of what it selects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from caches import Build, table_of

from handler.archive.loading import load_archive
from handler.stimuli.selector import StimuliSelector
from handler.stimuli.stimuli import Stimuli
from train.stimuli.cache import SelectorFiles, StimuliCache, build_cache


@pytest.fixture(scope="module")
def selector(tiny_model: Path) -> StimuliSelector:
    return load_archive(tiny_model).selector


@pytest.fixture(scope="module")
def face_files(landmarks: Path) -> SelectorFiles:
    return SelectorFiles(landmarks)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, photo, encode) -> list[Path]:
    """Twenty photos, two of which cannot be read, and one PNG that is called a JPEG."""
    folder = tmp_path_factory.mktemp("photos")
    paths = [folder / f"{i:02}.jpg" for i in range(20)]
    for i, path in enumerate(paths):
        path.write_bytes(encode(photo(i), "PNG" if i == 4 else "JPEG"))
    paths[3].write_bytes(paths[3].read_bytes()[:200])
    paths[17].write_bytes(b"<html>moved</html>")
    return paths


@pytest.fixture(scope="module")
def build(selector: StimuliSelector, face_files: SelectorFiles) -> Build:
    def call(paths: Sequence[Path], root: Path, **options) -> StimuliCache:
        options = {"selector": selector, "files": face_files} | options
        return build_cache(table_of(paths), options.pop("selector"), root, **options)

    return call


@pytest.fixture(scope="module")
def cache(photos: list[Path], build: Build, tmp_path_factory) -> StimuliCache:
    return build(photos, tmp_path_factory.mktemp("cache"))


@pytest.fixture
def selections(selector: StimuliSelector, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each call of the selector got."""
    calls: list[int] = []
    select = selector.select

    def counted(images: Sequence[torch.Tensor]) -> Stimuli:
        calls.append(len(images))
        return select(images)

    monkeypatch.setattr(selector, "select", counted)
    return calls
