"""Squares cut from a photo: a face's upright 48x48 grey crop, as dlib's alignment cuts it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from handler.resizing import resize, to_grey
from handler.values.prediction import FACE_SIDE

Points = np.ndarray[Any, np.dtype[np.float32]]
Places = np.ndarray[Any, np.dtype[np.float64]]

# Where dlib's crops (padding 0.25) have both eyes, the tip of the nose and the mouth, in pixels:
# medians over 81 faces of FI's training photos that dlib and BlazeFace both find.
_IN_CROP: Points = np.array([[15.1, 14.9], [32.4, 14.9], [23.8, 25.8], [23.9, 34.3]], np.float32)


def align(image: torch.Tensor, points: Points) -> torch.Tensor:
    """The crop that a similarity brings closest to `_IN_CROP`; black beyond the image.

    Args:
        image: uint8, 3xHxW.
        points: Right eye, left eye, tip of the nose and middle of the mouth, in pixels of the
            image; further points are ignored.

    Returns:
        uint8, 1x48x48.
    """
    turn, move = _similarity(points[: len(_IN_CROP)], _IN_CROP)
    return cut(image, turn, move, FACE_SIDE, grey=True)


def cut(
    image: torch.Tensor, turn: complex, move: complex, side: int, *, grey: bool = False
) -> torch.Tensor:
    """A square of an image that was turned, scaled and moved; black beyond the image.

    Args:
        image: uint8, 3xHxW.
        turn: Factor that turns and scales places x + iy of the image.
        move: Offset that then gives places of the square.
        side: Side of the square in pixels.
        grey: Whether the square is grey.

    Returns:
        uint8, 3 x side x side; 1 x side x side if grey.
    """
    back = 1 / turn
    corners = (np.array([0, side, side * 1j, side + side * 1j]) - move) * back
    height, width = image.shape[-2:]
    left, right = _range(corners.real, abs(back), width)
    top, bottom = _range(corners.imag, abs(back), height)
    if right - left < 1 or bottom - top < 1:
        return torch.zeros(1 if grey else 3, side, side, dtype=torch.uint8)
    part = image[:, top:bottom, left:right]
    # What shrinks is made smaller first, or pixels of the square would be single ones of many.
    shrink = min(abs(turn), 1.0)
    size = max(round((bottom - top) * shrink), 1), max(round((right - left) * shrink), 1)
    smaller = resize(to_grey(part) if grey else part, size).unsqueeze(0).float()
    # From -1 to 1 within the square, to -1 to 1 within the part.
    middle = (complex(side, side) / 2 - move) * back - complex(left, top)
    across, down = (right - left) / 2, (bottom - top) / 2
    half = back * side / 2
    matrix = torch.tensor(
        [
            [half.real / across, -half.imag / across, middle.real / across - 1],
            [half.imag / down, half.real / down, middle.imag / down - 1],
        ],
        dtype=torch.float32,
    ).unsqueeze(0)
    grid = functional.affine_grid(matrix, [1, 1, side, side], align_corners=False)
    sampled = functional.grid_sample(
        smaller, grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return sampled.squeeze(0).round_().to(torch.uint8)


def _range(places: Places, margin: float, length: int) -> tuple[int, int]:
    """The pixels along one axis that the square needs."""
    first = int(np.floor(places.min() - margin))
    last = int(np.ceil(places.max() + margin))
    return min(max(first, 0), length), min(max(last, 0), length)


def _similarity(points: Points, targets: Points) -> tuple[complex, complex]:
    """Turning and moving (as complex numbers) that bring points closest to their targets."""
    here = points[:, 0].astype(np.float64) + 1j * points[:, 1]
    there = targets[:, 0].astype(np.float64) + 1j * targets[:, 1]
    offsets = here - here.mean()
    spread = float((np.abs(offsets) ** 2).sum())
    turn = complex((offsets.conj() * (there - there.mean())).sum() / max(spread, 1e-9))
    if abs(turn) < 1e-6:  # all points in one place
        turn = 1 + 0j
    return turn, complex(there.mean() - turn * here.mean())
