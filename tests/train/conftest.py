"""Labelled pictures that a training run takes seconds on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory, photo) -> Path:
    """Ten pictures to train on, six to validate on; dark ones are fear, light ones awe."""
    root = tmp_path_factory.mktemp("data")
    for split, count in (("train", 5), ("val", 3)):
        for emotion, level in (("awe", 200), ("fear", 20)):
            folder = root / split / emotion
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = np.asarray(photo(len(list(root.rglob("*.png"))), (80, 64))) // 6 + level
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


@pytest.fixture(scope="session")
def cache_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cache of the stimuli of those pictures."""
    return tmp_path_factory.mktemp("cache")
