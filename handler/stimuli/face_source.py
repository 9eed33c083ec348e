"""Face sources, behind one small protocol, and the choice between them.

A source searches a batch of images while the object source works on it: `FaceSource.start`, then
`FaceSearch.collect`. Where faces are off, nothing is searched, and no image has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import torch

from handler.stimuli.stimuli import Faces
from handler.values.configs import NO_FACES, FaceConfig
from handler.values.prediction import FACE_SIDE


class FaceSearch(Protocol):
    """A search under way."""

    def collect(self) -> Faces:
        """Wait for the end: the largest face of each image, in the order of the images."""


class FaceSource(Protocol):
    """Images -> the largest face of each."""

    def start(self, images: Sequence[torch.Tensor]) -> FaceSearch:
        """Begin to search images (uint8, 3xHxW, any sizes, on the CPU) and return at once."""

    def select(self, images: Sequence[torch.Tensor]) -> Faces:
        """The largest face of each image (uint8, 3xHxW, any sizes)."""


class NoFaces:
    """Finds no faces, and looks at nothing."""

    def start(self, images: Sequence[torch.Tensor]) -> FaceSearch:
        """As `FaceSource.start`."""
        return _NothingFound(len(images))

    def select(self, images: Sequence[torch.Tensor]) -> Faces:
        """As `FaceSource.select`."""
        return self.start(images).collect()


class _NothingFound:
    def __init__(self, images: int) -> None:
        self._images = images

    def collect(self) -> Faces:
        """As `FaceSearch.collect`."""
        return Faces(
            crops=torch.zeros(self._images, 1, FACE_SIDE, FACE_SIDE, dtype=torch.uint8),
            boxes=torch.zeros(self._images, 4),
            scores=torch.zeros(self._images),
            counts=torch.zeros(self._images, dtype=torch.int64),
        )


def build_face_source(
    config: FaceConfig, *, landmarks: Path, detector: Path | None, threads: int
) -> FaceSource:
    """The source that ``config`` names.

    Args:
        config: Settings of the search.
        landmarks: Path of the face landmark file.
        detector: Path of the face detector's file, for backends that have one.
        threads: Number of images that are searched in parallel.

    Raises:
        FileNotFoundError: The landmark file does not exist.
        FaceDetectorMissing: The detector's file is missing.
    """
    if config.backend == NO_FACES:
        return NoFaces()
    # Imported on demand: without faces dlib is not needed.
    from handler.stimuli.faces import DlibFaces  # noqa: PLC0415

    return DlibFaces(landmarks=landmarks, detector=detector, threads=threads, **asdict(config))
