"""From a detector's proposals to the N most confident distinct regions of an image (Sec. III-A).

A detector's usual output is (proposal, class) pairs, in which one region can appear under several
names and whose number nobody knows beforehand. The object stimulus is N *regions*: each proposal is
given its best class, near copies are suppressed across all classes, and the N surest remain. What
is kept are indices of proposals, so that the feature of a region is the one that the detector has
computed already for its proposal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torchvision.ops import clip_boxes_to_image, nms

from handler.stimuli.stimuli import Objects


@dataclass(frozen=True)
class Regions:
    """The n <= N regions of one image, most confident first.

    Attributes:
        proposals: int64, n, distinct indices of the proposals they come from.
        boxes: float32, nx4, xyxy, absolute pixels of the image as decoded.
        scores: float32, n, probability of the label.
        labels: int64, n, foreground classes.
    """

    proposals: torch.Tensor
    boxes: torch.Tensor
    scores: torch.Tensor
    labels: torch.Tensor


def distinct_regions(
    boxes: torch.Tensor,
    probabilities: torch.Tensor,
    *,
    seen: tuple[int, int],
    decoded: tuple[int, int],
    count: int,
    threshold: float,
) -> Regions:
    """The most confident distinct regions of one image.

    Args:
        boxes: Box of each foreground class for each of R proposals, float, RxCx4, xyxy, in pixels
            of the image as the detector saw it; boxes may extend beyond the image.
        probabilities: Probabilities of the C foreground classes, without background, float, RxC.
        seen: Height and width of the image as the detector saw it, without padding.
        decoded: Height and width of the image as decoded.
        count: N, how many regions at most.
        threshold: Overlap (intersection over union) above which the less confident of two boxes is
            dropped, whatever their classes.

    Returns:
        At most ``count`` regions; none if there are no proposals. Boxes without area or with
        values that are not finite are no regions.
    """
    scores, labels = probabilities.float().max(dim=1)  # R
    rows = torch.arange(len(labels), device=labels.device)
    best = clip_boxes_to_image(boxes[rows, labels].float(), list(seen))  # Rx4
    real = (best[:, 2:] > best[:, :2]).all(dim=1) & best.isfinite().all(dim=1) & scores.isfinite()
    proposals = real.nonzero().squeeze(1)
    kept = proposals[nms(best[proposals], scores[proposals], threshold)][:count]
    (height, width), (seen_height, seen_width) = decoded, seen
    x, y = width / seen_width, height / seen_height
    scale = torch.tensor([x, y, x, y], device=best.device)
    return Regions(kept, best[kept] * scale, scores[kept], labels[kept])


def stack_regions(
    regions: Sequence[Regions], features: Sequence[torch.Tensor], *, count: int
) -> Objects:
    """The object stimulus of B images.

    Args:
        regions: Regions of each image.
        features: Features of each image, float, RxF, one row for each of its proposals.
        count: N; images with fewer regions are filled up with zeros and masked.

    Returns:
        `Objects` of BxN regions, without attributes.
    """
    first = features[0]
    shape, size = (len(regions), count), first.shape[1]
    objects = Objects(
        features=first.new_zeros(*shape, size),
        boxes=first.new_zeros(*shape, 4, dtype=torch.float32),
        scores=first.new_zeros(shape, dtype=torch.float32),
        labels=first.new_zeros(shape, dtype=torch.int64),
        mask=first.new_zeros(shape, dtype=torch.bool),
    )
    for row, (found, of_proposals) in enumerate(zip(regions, features, strict=True)):
        n = len(found.proposals)
        objects.features[row, :n] = of_proposals[found.proposals]
        objects.boxes[row, :n] = found.boxes
        objects.scores[row, :n] = found.scores
        objects.labels[row, :n] = found.labels
        objects.mask[row, :n] = True
    return objects
