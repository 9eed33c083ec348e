"""What every face source is: a search that is started, and faces that are collected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from handler.stimuli.stimuli import Faces
from handler.values.errors import VeaError
from handler.values.prediction import FACE_SIDE


class FaceDetectorMissing(VeaError):
    """The face search needs a detector that is not there; the message says which."""


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


class FinishedSearch:
    """A search that has ended.

    Args:
        faces: Faces that were found.
    """

    def __init__(self, faces: Faces) -> None:
        self._faces = faces

    def collect(self) -> Faces:
        """As `FaceSearch.collect`."""
        return self._faces


class NoFaces:
    """Finds no faces, and looks at nothing."""

    def start(self, images: Sequence[torch.Tensor]) -> FaceSearch:
        """As `FaceSource.start`."""
        return FinishedSearch(no_faces(len(images)))

    def select(self, images: Sequence[torch.Tensor]) -> Faces:
        """As `FaceSource.select`."""
        return no_faces(len(images))


def no_faces(images: int) -> Faces:
    """The faces of images without any.

    Args:
        images: Number of images.
    """
    return Faces(
        crops=torch.zeros(images, 1, FACE_SIDE, FACE_SIDE, dtype=torch.uint8),
        boxes=torch.zeros(images, 4),
        scores=torch.zeros(images),
        counts=torch.zeros(images, dtype=torch.int64),
    )
