"""The face sources `light` and `lighter`: BlazeFace over photos, with torch or its compiled form.

The network looks twice. First at whole photos; then at the largest of what it found there, upright
and enlarged. A statue's head or a pattern in leaves rarely passes both, and the second look places
the points of the face more exactly. A face's score is the mean of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import nn

from handler.resizing import resize
from handler.stimuli.faces.alignment import Points, align, cut
from handler.stimuli.faces.blazeface import ANSWER, BlazeFace
from handler.stimuli.faces.detections import Detection, best_near, detect
from handler.stimuli.faces.search import FaceDetectorMissing, FaceSearch, FinishedSearch, no_faces
from handler.stimuli.stimuli import Faces
from handler.values.configs import LIGHT_FACES, LIGHTER_FACES

SIDES = {LIGHT_FACES: (160, 160), LIGHTER_FACES: (128, 96)}
"""Sides in pixels of the squares that the network sees first and then: less than the 192 that it
was published for cost less, and find no fewer faces (docs/research/faces.md)."""
_CANDIDATE = 0.0  # least score of the first look for a second one
_SECOND_LOOKS = 2  # most of a photo
_AROUND = 2.5  # times the face's box that the second look sees
_LOWEST = -6.0  # score of a second look that sees nothing


class LightFaces(nn.Module):
    """Images -> the largest face of each.

    Args:
        network: `BlazeFace`, or its compiled form.
        threshold: Minimum score of a face, a logit: 0 is a probability of one half.
        sides: Sides in pixels of the squares of the first look and of the second, multiples of 32.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        threshold: float = 0.0,
        sides: tuple[int, int] = SIDES[LIGHT_FACES],
    ) -> None:
        super().__init__()
        self.network = network
        self.threshold = threshold
        self.sides = sides

    def start(self, images: Sequence[torch.Tensor]) -> FaceSearch:
        """Search images (uint8, 3xHxW, any sizes, on the CPU)."""
        return FinishedSearch(self.select(images))

    def select(self, images: Sequence[torch.Tensor]) -> Faces:
        """The largest face of each image (uint8, 3xHxW, any sizes)."""
        found = no_faces(len(images))
        looks: list[_SecondLook] = []
        smaller: list[int] = []
        first, second = self.sides
        for number, answers in enumerate(self._answers([_fit(image, first) for image in images])):
            faces = sorted(detect(answers, _CANDIDATE), key=lambda face: -face.area)
            looks += [
                _SecondLook(number, images[number], face, (first, second))
                for face in faces[:_SECOND_LOOKS]
            ]
            # They are counted, but one of them is not worth a look of its own.
            smaller.append(sum(face.score >= self.threshold for face in faces[_SECOND_LOOKS:]))
        for look, answers in zip(
            looks, self._answers([look.square for look in looks]), strict=True
        ):
            score, points = look.judge(answers)
            if score < self.threshold:
                continue
            if not found.counts[look.number]:  # the larger one comes first
                found.crops[look.number] = align(look.image, points)
                found.boxes[look.number] = torch.from_numpy(look.box)
                found.scores[look.number] = score
                found.counts[look.number] = smaller[look.number]
            found.counts[look.number] += 1
        return found

    def _answers(self, squares: Sequence[torch.Tensor]) -> Points:
        """The network's answers to squares, uint8, 3xSxS each."""
        if not squares:
            return np.empty((0, ANSWER, 1, 1), np.float32)
        device = next((weight.device for weight in self.network.parameters()), None)
        with torch.inference_mode():
            answers = self.network(torch.stack(list(squares)).to(device))
        numbers: Points = answers.float().cpu().numpy()
        return numbers


class _SecondLook:
    """A square around a face, upright, that the network sees again.

    Args:
        number: Number of the photo.
        image: The photo, uint8, 3xHxW.
        face: Face as the first look found it.
        sides: Sides in pixels of the square of the first look and of this one.
    """

    def __init__(
        self, number: int, image: torch.Tensor, face: Detection, sides: tuple[int, int]
    ) -> None:
        self.number = number
        self.image = image
        self._score = face.score
        first, self._side = sides
        corner, scale = _frame(image, first)
        points = (face.points - corner) / scale
        box = (face.box.reshape(2, 2) - corner) / scale
        left, top, right, bottom = map(float, box.flatten())
        height, width = image.shape[-2:]
        self.box = np.clip([left, top, right, bottom], 0, [width, height] * 2).astype(np.float32)
        eyes = points[1] - points[0]
        length = max(right - left, bottom - top, 1.0) * _AROUND
        self._turn = complex(self._side / length * np.exp(-1j * np.arctan2(eyes[1], eyes[0])))
        middle = complex((left + right) / 2, (top + bottom) / 2)
        self._move = complex(self._side, self._side) / 2 - self._turn * middle
        self.square = cut(image, self._turn, self._move, self._side)

    def judge(self, answers: Points) -> tuple[float, Points]:
        """The face's score over both looks, and its points in pixels of the photo.

        Args:
            answers: The network's answers to the square, 17xS/4xS/4.
        """
        half = self._side / _AROUND / 2
        expected = np.array([-half, -half, half, half], np.float32) + self._side / 2
        best = best_near(answers, expected)
        if best is None:
            return (self._score + _LOWEST) / 2, np.zeros((6, 2), np.float32)
        places = (best.points[:, 0] + 1j * best.points[:, 1] - self._move) / self._turn
        points = np.stack([places.real, places.imag], axis=1).astype(np.float32)
        return (self._score + best.score) / 2, points


def load_network(weights: Path) -> BlazeFace:
    """BlazeFace with its weights, for evaluation.

    Args:
        weights: Path of a safetensors file.

    Raises:
        FaceDetectorMissing: The file does not exist.
    """
    if not weights.is_file():
        raise FaceDetectorMissing(f"BlazeFace needs weights, and none are at {weights}")
    network = BlazeFace()
    with safe_open(weights, framework="pt") as file:
        network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    return network.eval().requires_grad_(False)


def _size(image: torch.Tensor, side: int) -> tuple[int, int]:
    """Height and width at which the network sees a photo in a square of this side."""
    longer = max(image.shape[-2:])
    height, width = (max(round(length * side / longer), 1) for length in image.shape[-2:])
    return height, width


def _frame(image: torch.Tensor, side: int) -> tuple[Points, Points]:
    """Corner of a photo in the square, and the square's pixels for one of the photo, x and y."""
    height, width = _size(image, side)
    corner = np.array([(side - width) // 2, (side - height) // 2], np.float32)
    return corner, np.array([width / image.shape[-1], height / image.shape[-2]], np.float32)


def _fit(image: torch.Tensor, side: int) -> torch.Tensor:
    """The photo in the middle of a black square."""
    height, width = _size(image, side)
    left, top = _frame(image, side)[0].astype(int)
    square = torch.zeros(3, side, side, dtype=torch.uint8)
    square[:, top : top + height, left : left + width] = resize(image, (height, width))
    return square
