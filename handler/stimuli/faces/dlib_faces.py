"""The face sources `hog` and `cnn`: dlib finds and aligns the largest face.

dlib finds faces at one scale for all images, by one of two detectors. ``hog`` looks at grey pixels
and releases the interpreter lock: a batch is searched by several threads, and while the object
source works (`DlibFaces.start`, then `DlibSearch.collect`). ``cnn`` looks at colours, finds turned
and half covered faces too, costs a hundred times as much on a CPU, and keeps state between calls:
images pass through it one by one. A face needs eyes and a nose to be aligned: the file of the
5-point landmark predictor travels in the archive, as does the file of the ``cnn`` detector.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dlib
import numpy as np
import torch

from handler.resizing import resize, to_grey
from handler.stimuli.faces.search import FaceDetectorMissing
from handler.stimuli.stimuli import Faces
from handler.values.prediction import FACE_SIDE

# A panorama is not enlarged beyond this many times its shorter side.
_LONGEST_RATIO = 3
_BAND = 1_000_000  # pixels that turn grey at a time

Pixels = np.ndarray[Any, Any]


@dataclass(frozen=True)
class _Largest:
    """What is known of one image: box in pixels of the image as decoded, xyxy."""

    crop: Pixels
    box: tuple[float, float, float, float]
    score: float
    count: int


_NO_FACE = _Largest(np.zeros((FACE_SIDE, FACE_SIDE), np.uint8), (0.0, 0.0, 0.0, 0.0), 0.0, 0)


class DlibSearch:
    """A search under way in threads of its own."""

    def __init__(self, found: Sequence[Future[_Largest]]) -> None:
        self._found = found

    def collect(self) -> Faces:
        """Wait for the end: the largest face of each image, in the order of the images."""
        found = [future.result() for future in self._found]
        return Faces(
            crops=torch.from_numpy(np.stack([face.crop for face in found])).unsqueeze(1),
            boxes=torch.tensor([face.box for face in found], dtype=torch.float32),
            scores=torch.tensor([face.score for face in found], dtype=torch.float32),
            counts=torch.tensor([face.count for face in found], dtype=torch.int64),
        )


class DlibFaces:
    """Images -> the largest face of each.

    Args:
        landmarks: Path of dlib's ``shape_predictor_5_face_landmarks.dat``.
        detector: Path of dlib's ``mmod_human_face_detector.dat``; only for ``cnn``.
        side: Length in pixels to which the shorter side of an image is resized before detection
            (the paper searches 448x448 images).
        upsample: Number of times that the detector doubles the image; each time finds faces half as
            large and costs four times as much.
        threshold: Minimum detector score of a face. Scores of the two backends are not comparable.
        backend: ``"hog"`` or ``"cnn"``.
        threads: Number of images that ``hog`` searches in parallel.

    Raises:
        FileNotFoundError: The landmark file does not exist.
        FaceDetectorMissing: There is no such backend, or the file for ``cnn`` is missing.
    """

    def __init__(
        self,
        *,
        landmarks: Path,
        detector: Path | None = None,
        side: int = 448,
        upsample: int = 0,
        threshold: float = 0.0,
        backend: str = "hog",
        threads: int = 1,
    ) -> None:
        if not Path(landmarks).is_file():
            raise FileNotFoundError(f"no face landmark file at {landmarks}")
        self.side = side
        self._detector: _Detector
        if backend == "hog":
            self._detector = _Hog(upsample=upsample, threshold=threshold)
        elif backend == "cnn":
            self._detector = _Cnn(_detector_file(detector), upsample=upsample, threshold=threshold)
            threads = 1
        else:
            raise FaceDetectorMissing(
                f"there is no face search '{backend}': expected 'hog' or 'cnn'"
            )
        # The aligner is shared: it keeps no state and holds the interpreter lock anyway.
        self._align = dlib.shape_predictor(str(landmarks))
        self._pool = ThreadPoolExecutor(max(threads, 1), thread_name_prefix="faces")

    def start(self, images: Sequence[torch.Tensor]) -> DlibSearch:
        """Begin to search images (uint8, 3xHxW, any sizes, on the CPU) and return at once."""
        return DlibSearch([self._pool.submit(self._largest, image) for image in images])

    def select(self, images: Sequence[torch.Tensor]) -> Faces:
        """The largest face of each image (uint8, 3xHxW, any sizes)."""
        return self.start(images).collect()

    def _largest(self, image: torch.Tensor) -> _Largest:
        height, width = image.shape[-2:]
        shorter, longer = min(height, width), max(height, width)
        scale = min(self.side / shorter, self.side * _LONGEST_RATIO / longer)
        size = max(round(height * scale), 1), max(round(width * scale), 1)
        pixels = self._detector.pixels(image, size)
        found = self._detector.find(pixels)
        if not found:
            return _NO_FACE
        face, score = max(found, key=lambda one: one[0].area())
        grey = pixels if pixels.ndim == 2 else _grey(image, size)
        chip = dlib.get_face_chip(grey, self._align(grey, face), size=FACE_SIDE, padding=0.25)
        box = (
            max(face.left() / scale, 0.0),
            max(face.top() / scale, 0.0),
            min((face.right() + 1) / scale, float(width)),
            min((face.bottom() + 1) / scale, float(height)),
        )
        return _Largest(np.asarray(chip), box, float(score), len(found))


class _Detector(ABC):
    """Pixels -> rectangles of faces, each with a score."""

    @abstractmethod
    def pixels(self, image: torch.Tensor, size: tuple[int, int]) -> Pixels:
        """What it looks at: ``image`` (uint8, 3xHxW) at ``size`` (height, width)."""

    @abstractmethod
    def find(self, pixels: Pixels) -> list[tuple[Any, float]]:
        """All faces, as dlib rectangles, with their scores."""


class _Hog(_Detector):
    """Histograms of oriented gradients over grey pixels (colour finds no more, and costs more)."""

    def __init__(self, *, upsample: int, threshold: float) -> None:
        self.upsample = upsample
        self.threshold = threshold
        # A detector keeps state between calls: each thread has its own. They are copies of one:
        # making one takes half a second, a copy nothing.
        self._local = threading.local()
        self._lock = threading.Lock()
        self._first: Any = None

    def pixels(self, image: torch.Tensor, size: tuple[int, int]) -> Pixels:
        return _grey(image, size)

    def find(self, pixels: Pixels) -> list[tuple[Any, float]]:
        if not hasattr(self._local, "detector"):
            with self._lock:
                if self._first is None:
                    self._first = dlib.get_frontal_face_detector()
            self._local.detector = copy(self._first)
        found, scores, _ = self._local.detector.run(pixels, self.upsample, self.threshold)
        return list(zip(found, scores, strict=True))


class _Cnn(_Detector):
    """dlib's max-margin network; `DlibFaces` calls it from one thread only."""

    def __init__(self, file: Path, *, upsample: int, threshold: float) -> None:
        self.upsample = upsample
        self.threshold = threshold
        self._network = dlib.cnn_face_detection_model_v1(str(file))

    def pixels(self, image: torch.Tensor, size: tuple[int, int]) -> Pixels:
        resized = resize(image, size)
        return np.ascontiguousarray(resized.permute(1, 2, 0).numpy())

    def find(self, pixels: Pixels) -> list[tuple[Any, float]]:
        found = [(one.rect, one.confidence) for one in self._network(pixels, self.upsample)]
        return [(face, score) for face, score in found if score >= self.threshold]


def _grey(image: torch.Tensor, size: tuple[int, int]) -> Pixels:
    # In bands: the conversion computes in floats, a dozen times the bytes of the largest picture.
    bands = image.split(max(1, _BAND // image.shape[-1]), dim=1)
    grey = torch.cat([to_grey(band) for band in bands], dim=1)
    resized = resize(grey, size)
    return np.ascontiguousarray(resized[0].numpy())


def _detector_file(file: Path | None) -> Path:
    if file is None or not Path(file).is_file():
        place = f"at {file}" if file else "given"
        raise FaceDetectorMissing(
            f"face search 'cnn' needs dlib's mmod_human_face_detector.dat, and none is {place}"
        )
    return Path(file)
