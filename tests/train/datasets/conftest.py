"""Small data sets as people have them: real images, lists and tables in ``tmp_path``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from train.datasets.table import DatasetTable

Picture = Callable[..., Path]
Labels = Callable[[DatasetTable], dict[str, str]]


@pytest.fixture
def picture(tmp_path: Path) -> Picture:
    """Writes a tiny image, another one with each call: ``picture("awe/1.jpg")``."""
    made = np.random.default_rng(0)

    def write(name: str, size: tuple[int, int] = (8, 6), root: Path = tmp_path) -> Path:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = made.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    return write


@pytest.fixture
def pictures(picture: Picture) -> Callable[[Sequence[str]], list[Path]]:
    """Writes one image for each name."""
    return lambda names: [picture(name) for name in names]


@pytest.fixture
def text(tmp_path: Path) -> Callable[[str, str], Path]:
    """Writes a text file under ``tmp_path``."""

    def write(name: str, content: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        return path

    return write


@pytest.fixture
def labels() -> Labels:
    """The emotion of each image by its path in the data set."""

    def of(dataset: DatasetTable) -> dict[str, str]:
        return {
            Path(row.path).relative_to(dataset.root).as_posix(): dataset.wheel.labels[row.label]
            for row in dataset.table.itertuples()
        }

    return of


@pytest.fixture
def splits() -> Labels:
    """The split of each image by its path in the data set."""

    def of(dataset: DatasetTable) -> dict[str, str]:
        return {
            Path(row.path).relative_to(dataset.root).as_posix(): row.split
            for row in dataset.table.itertuples()
        }

    return of
