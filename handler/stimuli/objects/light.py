"""Objects as a small detector finds them: NanoDet-g, COCO's 80 things, on a CPU.

One pass yields boxes, names and features. The feature of a region is the mean of the detector's
three maps over its box. Where nothing is found, the whole picture is the one region.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from handler.resizing import resize
from handler.stimuli.objects.coco_names import COCO_NAMES, name_scores, offsets
from handler.stimuli.objects.nanodet import (
    CHANNELS,
    CLASSES,
    STRIDES,
    NanoDet,
    decode_boxes,
    map_sides,
    pool_features,
)
from handler.stimuli.objects.source import ObjectSource
from handler.stimuli.objects.suppression import distinct_boxes
from handler.stimuli.stimuli import Objects
from handler.values.checks import check_number
from handler.values.places import Box

_CANDIDATES = 100  # the likeliest cells of an image, among which near copies are looked for


class LightObjects(ObjectSource):
    """Detected things as objects.

    Args:
        size: Side in pixels of the square input image of the detector, a multiple of 32. The
            published weights were trained at 416; 320 takes 0.6 of the time.
        count: N, how many regions to keep.
        nms: Overlap (intersection over union) above which the less confident of two regions is
            dropped.
        least_score: Least confidence of a region, 0 to 1.
        name_threshold: Least fraction of names of that kind and confidence that were right, 0 to
            1; see `handler.stimuli.objects.coco_names`.
        compiled: Compiled trunk of the detector; by default it is built with torch.

    Raises:
        ValueError: The size is not a multiple of 32.
    """

    feature_size: int = CHANNELS * len(STRIDES)
    vocabulary: Sequence[str] = COCO_NAMES
    names: Sequence[str] = COCO_NAMES

    def __init__(
        self,
        *,
        size: int = 320,
        count: int = 10,
        nms: float = 0.5,
        least_score: float = 0.3,
        name_threshold: float = 0.85,
        compiled: nn.Module | None = None,
    ) -> None:
        check_number("size", size, least=64, whole=True)
        if size % STRIDES[-1]:
            raise ValueError(f"size is {size}: expected a multiple of {STRIDES[-1]}")
        super().__init__()
        self.size = size
        self.count = count
        self.nms = nms
        self.least_score = least_score
        self.name_threshold = name_threshold
        self.detector = NanoDet(compiled=compiled)
        self.register_buffer("offset", offsets(), persistent=False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.eval().requires_grad_(False)

    offset: torch.Tensor

    def train(self, mode: bool = True) -> LightObjects:
        """Stays in evaluation mode: the source is frozen."""
        return super().train(False)

    @torch.inference_mode()
    def select(self, images: Sequence[torch.Tensor]) -> Objects:
        """The ``count`` most confident things of each image (uint8, 3xHxW, any sizes)."""
        maps, boxes, scores, labels, mask = self._find(images)
        return Objects(
            features=pool_features(maps, boxes, self.size, map_sides(self.size)),
            boxes=boxes * self._scales(images, boxes.device),
            scores=scores,
            labels=labels,
            mask=mask,
            names=labels,
            name_scores=name_scores(scores, labels, self.offset) * mask,
        )

    @torch.inference_mode()
    def named(self, images: Sequence[torch.Tensor]) -> list[list[tuple[str, float, Box]]]:
        """Name, score and box (xyxy, pixels) of the things of each image that have a name.

        As `select`, without features, and without the whole picture where nothing is found.
        """
        _, boxes, scores, labels, mask = self._find(images)
        likely = name_scores(scores, labels, self.offset)
        kept = mask & (scores >= self.least_score) & (likely >= self.name_threshold)
        places = boxes * self._scales(images, boxes.device)
        return [
            [
                (COCO_NAMES[label], score, tuple(box))
                for label, score, box in zip(
                    labels[row][kept[row]].tolist(),
                    likely[row][kept[row]].tolist(),
                    places[row][kept[row]].tolist(),
                    strict=True,
                )
            ]
            for row in range(len(images))
        ]

    def _find(self, images: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Maps (Bx128xM), and boxes (in pixels of the detector), scores, labels and mask, BxN."""
        cells = self.detector(self.resize(images).to(self.detector.mean.device))  # Bx252xM
        maps, answers = cells.float().split([CHANNELS, cells.shape[1] - CHANNELS], dim=1)
        scores, labels = answers[:, :CLASSES].sigmoid().max(dim=1)  # BxM
        scores, best = scores.topk(min(_CANDIDATES, scores.shape[1]), dim=1)  # BxR
        labels = labels.gather(1, best)
        boxes = decode_boxes(answers[:, CLASSES:], best, self.size)  # BxRx4
        rows = [self._regions(*row) for row in zip(boxes, scores, labels, strict=True)]
        return maps, *(torch.stack(part) for part in zip(*rows, strict=True))

    def _scales(self, images: Sequence[torch.Tensor], device: torch.device) -> torch.Tensor:
        """What the sides of a box are multiplied with, for pixels as decoded, Bx1x4."""
        sides = [[i.shape[-1], i.shape[-2], i.shape[-1], i.shape[-2]] for i in images]
        return torch.tensor(sides, device=device).unsqueeze(1) / self.size

    def _regions(
        self, boxes: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Boxes, scores, labels and mask of the N regions of one image, from R candidates.

        The whole picture has the label and the score of the likeliest candidate, which is below
        ``least_score``. What is missing is zeros, which have no feature either.
        """
        sure = (scores >= self.least_score) & (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        likely = sure.nonzero().squeeze(1)
        kept = likely[distinct_boxes(boxes[likely], self.nms, self.count)]
        if not len(kept):
            kept = scores.argmax().unsqueeze(0)
            boxes = boxes.new_tensor([0.0, 0.0, self.size, self.size]).expand_as(boxes)
        missing = self.count - len(kept)
        found = torch.arange(self.count, device=boxes.device) < len(kept)
        return (
            functional.pad(boxes[kept], (0, 0, 0, missing)),
            functional.pad(scores[kept], (0, missing)),
            functional.pad(labels[kept], (0, missing)),
            found,
        )

    def resize(self, images: Sequence[torch.Tensor]) -> torch.Tensor:
        """Images (uint8, 3xHxW, any sizes) as the detector sees them, uint8, Bx3xSxS."""
        return torch.stack([resize(image, (self.size, self.size)) for image in images])
