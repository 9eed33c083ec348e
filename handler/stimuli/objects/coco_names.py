"""The 80 things of COCO (Lin et al., 2014), and how far a small detector's names of them are true.

A small detector is as sure that a lion is a bear as that a man is a person. So its confidence s in
a name is turned into the fraction of such names that were right, sigmoid(a logit(s) + b), with b by
the kind of thing, fitted on photos that were looked at (docs/research/detected-objects.md). Kinds
that were seen wrong about as often as right, or hardly seen at all, are never names: animals, food,
toys, small things.
"""

from __future__ import annotations

import torch

COCO_NAMES: tuple[str, ...] = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus"),
    *("train", "truck", "boat", "traffic light", "fire hydrant", "stop sign"),
    *("parking meter", "bench", "bird", "cat", "dog", "horse"),
    *("sheep", "cow", "elephant", "bear", "zebra", "giraffe"),
    *("backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee"),
    *("skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove"),
    *("skateboard", "surfboard", "tennis racket", "bottle", "wine glass", "cup"),
    *("fork", "knife", "spoon", "bowl", "banana", "apple"),
    *("sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza"),
    *("donut", "cake", "chair", "couch", "potted plant", "bed"),
    *("dining table", "toilet", "tv", "laptop", "mouse", "remote"),
    *("keyboard", "cell phone", "microwave", "oven", "toaster", "sink"),
    *("refrigerator", "book", "clock", "vase", "scissors", "teddy bear"),
    *("hair drier", "toothbrush"),
)

_SLOPE = 2.29
_OFFSETS = {
    2.05: ("person",),
    0.31: ("bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"),
    1.11: ("chair", "bench", "cup", "dining table"),
}


def offsets() -> torch.Tensor:
    """The value b of each thing, float32, 80; minus infinity for what is never a name."""
    table = torch.full((len(COCO_NAMES),), -torch.inf)
    for offset, names in _OFFSETS.items():
        table[[COCO_NAMES.index(name) for name in names]] = offset
    return table


def name_scores(
    confidence: torch.Tensor, labels: torch.Tensor, offset: torch.Tensor
) -> torch.Tensor:
    """How likely names are right.

    Args:
        confidence: Confidence of the detector, float, any shape, 0 to 1.
        labels: Indices of the names, int64, of the same shape.
        offset: Table of `offsets`, float32, 80.

    Returns:
        float, of the same shape, 0 to 1.
    """
    return (_SLOPE * confidence.logit(eps=1e-6) + offset[labels]).sigmoid()
