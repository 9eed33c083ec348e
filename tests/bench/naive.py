"""The script that one would write first: Pillow, dlib, one photo at a time, eager float32 torch.

It computes what the program computes, with the networks of the same archive as they were trained:
batch norms are not folded, nothing is batched, and faces are searched as dlib's own example does,
in colours and with one upsampling.
"""

from __future__ import annotations

import io
from pathlib import Path

import dlib
import numpy as np
import torch
from PIL import Image

from handler.archive.loading import load_archive
from handler.stimuli.stimuli import Faces, Stimuli
from handler.values.prediction import FACE_SIDE
from train.weights import landmark_file

_UPSAMPLE = 1


class NaiveScript:
    """Scores one photo at a time.

    Args:
        archive: Path of the archive.
    """

    def __init__(self, archive: Path) -> None:
        loaded = load_archive(archive)
        self._network = loaded.network
        self._objects = loaded.selector.objects
        self._config = loaded.config.selector
        self._wheel = loaded.network.wheel
        self._detector = dlib.get_frontal_face_detector()
        self._align = dlib.shape_predictor(str(landmark_file()))

    def predict(self, data: bytes) -> dict[str, float]:
        """The probability of each emotion that a photo evokes."""
        image = Image.open(io.BytesIO(data)).convert("RGB")
        with torch.no_grad():
            objects = self._objects.select([_tensor(image)])
            stimuli = Stimuli(self._colour(image).unsqueeze(0), objects, self._faces(image))
            answer = self._network(stimuli).log_probabilities[0].exp()
        return dict(zip(self._wheel.labels, answer.tolist(), strict=True))

    def _colour(self, image: Image.Image) -> torch.Tensor:
        size = self._config.size
        if self._config.fit == "squash":
            return _tensor(image.resize((size, size), Image.Resampling.BILINEAR))
        scaled = _with_shorter_side(image, max(self._config.resize, size))
        left, top = (scaled.width - size) // 2, (scaled.height - size) // 2
        return _tensor(scaled.crop((left, top, left + size, top + size)))

    def _faces(self, image: Image.Image) -> Faces:
        pixels = np.array(_with_shorter_side(image, self._config.faces.side))
        found = self._detector(pixels, _UPSAMPLE)
        crop = np.zeros((FACE_SIDE, FACE_SIDE), np.uint8)
        if found:
            largest = max(found, key=lambda face: face.area())
            chip = dlib.get_face_chip(
                pixels, self._align(pixels, largest), size=FACE_SIDE, padding=0.25
            )
            crop = np.array(Image.fromarray(chip).convert("L"))
        return Faces(
            crops=torch.from_numpy(crop)[None, None],
            boxes=torch.zeros(1, 4),
            scores=torch.zeros(1),
            counts=torch.tensor([len(found)]),
        )


def _with_shorter_side(image: Image.Image, side: int) -> Image.Image:
    scale = side / min(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    return image.resize(size, Image.Resampling.BILINEAR)


def _tensor(image: Image.Image) -> torch.Tensor:
    """Pixels, uint8, 3xHxW."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
