"""Near copies among boxes are dropped, with torch alone.

Importing torchvision, whose `nms` gives the same, takes as long as importing torch. For the hundred
candidates of a light detector this is fast enough.
"""

from __future__ import annotations

import torch


def distinct_boxes(boxes: torch.Tensor, threshold: float, count: int) -> list[int]:
    """Indices of boxes that do not overlap a better one that is kept.

    Args:
        boxes: Boxes, float, Rx4, xyxy, best first.
        threshold: Overlap (intersection over union) above which the less good of two is dropped.
        count: Maximum number of boxes.
    """
    copies = (overlaps(boxes, boxes) > threshold).cpu().numpy()
    kept: list[int] = []
    for index in range(len(boxes)):
        if len(kept) == count:
            break
        if not copies[index, kept].any():
            kept.append(index)
    return kept


def overlaps(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Intersection over union of each pair of boxes: Rx4 and Sx4, xyxy -> RxS."""
    low = torch.maximum(one[:, None, :2], other[None, :, :2])
    high = torch.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(dim=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1) for boxes in (one, other)]
    joint = areas[0][:, None] + areas[1][None, :] - shared
    return shared / joint.clamp(min=1e-6)
