"""Things that a detector found beside what the network looked at, and the attention they hold.

Windows are what Semantic-Net weighs. A detected thing is none of them: it is a further reason, and
the attention that is told of it is the part of the windows' attention that falls into its box.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from handler.values.places import Box

_IRREGULAR = {"person": "people", "bus": "buses", "bench": "benches"}


@dataclass(frozen=True)
class DetectedThing:
    """A thing that a detector found, whose name is likely right.

    Attributes:
        label: Name of the thing.
        score: Fraction of such names that were right, 0 to 1.
        box: Box, xyxy, pixels.
        attention: Share of the attention that falls into the box, 0 to 1. Boxes overlap each other
            and the objects: these shares are added neither to each other nor to the objects'.
    """

    label: str
    score: float
    box: Box
    attention: float


def attention_within(weighed: Iterable[tuple[Box, float]], boxes: Sequence[Box]) -> float:
    """Share of the attention that falls into boxes; what several of them cover counts once.

    Args:
        weighed: Box of each object, xyxy, and its attention, which is spread evenly over its area.
        boxes: Boxes, xyxy, in the same pixels.

    Returns:
        0 to 1, if the objects' attention sums to 1.
    """
    total = 0.0
    for (left, top, right, bottom), attention in weighed:
        area = (right - left) * (bottom - top)
        if area > 0:
            inside = [_meet((left, top, right, bottom), box) for box in boxes]
            total += attention * _covered([box for box in inside if box is not None]) / area
    return total


def in_number(label: str, count: int) -> str:
    """The name of ``count`` things: "person", "2 people"."""
    return label if count == 1 else f"{count} {_IRREGULAR.get(label, label + 's')}"


def _meet(one: Box, other: Box) -> Box | None:
    left, top = max(one[0], other[0]), max(one[1], other[1])
    right, bottom = min(one[2], other[2]), min(one[3], other[3])
    return (left, top, right, bottom) if right > left and bottom > top else None


def _covered(boxes: Sequence[Box]) -> float:
    """The area that boxes cover together."""
    if len(boxes) == 1:
        left, top, right, bottom = boxes[0]
        return (right - left) * (bottom - top)
    columns = sorted({edge for box in boxes for edge in (box[0], box[2])})
    area = 0.0
    for left, right in pairwise(columns):
        strips = sorted((b[1], b[3]) for b in boxes if b[0] <= left and b[2] >= right)
        height, reached = 0.0, float("-inf")
        for top, bottom in strips:
            height += max(bottom - max(top, reached), 0.0)
            reached = max(reached, bottom)
        area += (right - left) * height
    return area
