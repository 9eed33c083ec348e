"""The answers of `BlazeFace` -> faces, each once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from handler.stimuli.faces.blazeface import STRIDE

Values = np.ndarray[Any, np.dtype[np.float32]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]

SAME_FACE = 0.3
"""Intersection over union from which two boxes are of one face."""


@dataclass(frozen=True)
class Detection:
    """A face.

    Attributes:
        box: Box, xyxy, in pixels of the image that the network saw.
        points: Right eye, left eye, tip of the nose, middle of the mouth, right and left ear, 6x2,
            in the same pixels.
        score: Logit of the score; 0 is a probability of one half.
    """

    box: Values
    points: Values
    score: float

    @property
    def area(self) -> float:
        """Area of the box."""
        width, height = self.box[2:] - self.box[:2]
        return float(max(width, 0) * max(height, 0))


def detect(answers: Values, threshold: float) -> list[Detection]:
    """The faces of one image, the surest first.

    Neighbouring places answer for the same face: their boxes and points are averaged, weighted by
    their scores.

    Args:
        answers: Output of the network for the image, 17xHxW.
        threshold: Minimum score of a face.
    """
    scores, boxes, points = _decode(answers, answers[0] >= threshold)
    order = np.argsort(-scores, kind="stable")
    scores, boxes, points = scores[order], boxes[order], points[order]
    found = []
    left = np.ones(len(scores), bool)
    while left.any():
        best = int(left.argmax())
        same = left & (overlaps(boxes[best], boxes) > SAME_FACE)
        same[best] = True  # a box without an area overlaps with nothing
        found.append(_mean(scores[same], boxes[same], points[same]))
        left &= ~same
    return found


def best_near(answers: Values, box: Values) -> Detection | None:
    """The surest face in a box, however unsure; None without any.

    Args:
        answers: Output of the network for the image, 17xHxW.
        box: Box, xyxy, that the face overlaps.
    """
    rows, columns = ((np.arange(length) + 0.5) * STRIDE for length in answers.shape[1:])
    within = (box[0] < columns) & (columns < box[2])
    scores, boxes, points = _decode(
        answers, within[None] & ((box[1] < rows) & (rows < box[3]))[:, None]
    )
    there = overlaps(box, boxes) > SAME_FACE
    if not there.any():
        return None
    best = int(np.where(there, scores, -np.inf).argmax())
    # Answers below one half say little of where a face is, unless there are no others.
    same = (overlaps(boxes[best], boxes) > SAME_FACE) & (scores >= min(scores[best], 0))
    same[best] = True
    return _mean(scores[same], boxes[same], points[same])


def _decode(answers: Values, chosen: Mask) -> tuple[Values, Values, Values]:
    """Scores, n, boxes, nx4, and points, nx6x2, of the chosen places."""
    rows, columns = np.nonzero(chosen)
    values = answers[:, rows, columns].T
    middles = (np.stack([columns, rows], axis=1) + 0.5) * STRIDE
    centres, sizes = values[:, 1:3] + middles, values[:, 3:5]
    boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
    return values[:, 0], boxes, values[:, 5:].reshape(-1, 6, 2) + middles[:, None]


def _mean(scores: Values, boxes: Values, points: Values) -> Detection:
    """One face that several answers are of."""
    weights = 1 / (1 + np.exp(-scores))
    return Detection(
        np.average(boxes, axis=0, weights=weights).astype(np.float32),
        np.average(points, axis=0, weights=weights).astype(np.float32),
        float(scores.max()),
    )


def overlaps(box: Values, boxes: Values) -> Values:
    """Intersection over union of a box with each of some boxes."""
    inner = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    common = inner.clip(min=0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(axis=1)
    own = (box[2:] - box[:2]).clip(min=0).prod()
    overlap: Values = common / np.maximum(own + areas - common, 1e-9)
    return overlap
