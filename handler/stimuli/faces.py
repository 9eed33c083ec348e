"""The face stimulus: dlib's HOG detector, the largest face, aligned to 48x48 grey (Sec. III-A).

Detection runs on grey pixels at one scale for all images. HOG releases the interpreter lock, so a
batch is searched by several threads, each with a detector of its own (a detector keeps state
between calls). A face needs eyes and a nose to be aligned: the 5-point landmark file travels in
the archive.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dlib
import numpy as np
import torch
from torchvision.transforms.v2 import functional as transforms

from handler.stimuli.stimuli import Faces

FACE_SIDE = 48
# A panorama is not enlarged beyond this many times its shorter side.
_LONGEST_RATIO = 3


class DlibFaces:
    """Images -> the largest face of each.

    Args:
        landmarks: path of dlib's ``shape_predictor_5_face_landmarks.dat``.
        side: the shorter side of an image is brought to this many pixels before detection (the
            paper searches 448x448 images).
        upsample: how many times the detector doubles the image; each time finds faces half as
            large and costs four times as much.
        threshold: least detector score of a face.
        threads: images searched at a time.
    """

    def __init__(
        self,
        *,
        landmarks: Path,
        side: int = 448,
        upsample: int = 0,
        threshold: float = 0.0,
        threads: int = 1,
    ) -> None:
        if not Path(landmarks).is_file():
            raise FileNotFoundError(f"no face landmark file at {landmarks}")
        self.side = side
        self.upsample = upsample
        self.threshold = threshold
        # The aligner is shared: it keeps no state and holds the interpreter lock anyway.
        self._align = dlib.shape_predictor(str(landmarks))
        self._local = threading.local()
        self._pool = ThreadPoolExecutor(max(threads, 1), thread_name_prefix="faces")

    def select(self, images: Sequence[torch.Tensor]) -> Faces:
        """The largest face of each image (uint8, 3xHxW, any sizes)."""
        found = list(self._pool.map(self._largest, images))
        crops = [crop for crop, _, _, _ in found]
        return Faces(
            crops=torch.from_numpy(np.stack(crops)).unsqueeze(1),
            boxes=torch.tensor([box for _, box, _, _ in found], dtype=torch.float32),
            scores=torch.tensor([score for _, _, score, _ in found], dtype=torch.float32),
            counts=torch.tensor([count for _, _, _, count in found], dtype=torch.int64),
        )

    def _largest(
        self, image: torch.Tensor
    ) -> tuple[np.ndarray[Any, Any], tuple[float, float, float, float], float, int]:
        grey, scale = self._grey(image)
        rectangles, scores, _ = self._detector().run(grey, self.upsample, self.threshold)
        if not rectangles:
            return np.zeros((FACE_SIDE, FACE_SIDE), np.uint8), (0.0, 0.0, 0.0, 0.0), 0.0, 0
        areas = [rectangle.area() for rectangle in rectangles]
        best = int(np.argmax(areas))
        face = rectangles[best]
        chip = dlib.get_face_chip(grey, self._align(grey, face), size=FACE_SIDE, padding=0.25)
        height, width = image.shape[-2:]
        box = (
            max(face.left() / scale, 0.0),
            max(face.top() / scale, 0.0),
            min((face.right() + 1) / scale, float(width)),
            min((face.bottom() + 1) / scale, float(height)),
        )
        return np.asarray(chip), box, float(scores[best]), len(rectangles)

    def _grey(self, image: torch.Tensor) -> tuple[np.ndarray[Any, Any], float]:
        """Grey pixels at detection scale, and that scale over the image's own."""
        height, width = image.shape[-2:]
        shorter, longer = min(height, width), max(height, width)
        scale = min(self.side / shorter, self.side * _LONGEST_RATIO / longer)
        size = [max(round(height * scale), 1), max(round(width * scale), 1)]
        grey = transforms.rgb_to_grayscale(image)
        resized = transforms.resize(grey, size, antialias=True)
        return np.ascontiguousarray(resized[0].numpy()), scale

    def _detector(self) -> Any:
        if not hasattr(self._local, "detector"):
            self._local.detector = dlib.get_frontal_face_detector()
        return self._local.detector
