"""Objects as torchvision's Faster R-CNN finds them: 80 everyday things of COCO (Sec. III-A).

The second detector, for hosts without the paper's: a ResNet-50 with a feature pyramid, from Li et
al. ("Benchmarking Detection Transfer Learning with Vision Transformers", 2021), which is part of
torchvision. It runs once for boxes and features: the 1024 numbers that its box head makes of a
proposal, and from which it names the thing, are the feature of the region.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torchvision.models.detection import (
    FasterRCNN_ResNet50_FPN_V2_Weights,
    fasterrcnn_resnet50_fpn_v2,
)
from torchvision.transforms.v2 import functional as transforms

from handler.stimuli.objects.regions import Regions, distinct_regions, stack_regions
from handler.stimuli.objects.source import ObjectSource
from handler.stimuli.stimuli import Objects

# Only the list of category names is taken from torchvision, no weights. COCO has gaps in its
# numbering; the network has outputs for them, which were never trained to mean anything.
_CATEGORIES: tuple[str, ...] = tuple(FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1.meta["categories"])
_NAMED: tuple[int, ...] = tuple(
    index for index, name in enumerate(_CATEGORIES) if name not in ("__background__", "N/A")
)
COCO_CATEGORIES: tuple[str, ...] = tuple(_CATEGORIES[index] for index in _NAMED)

# What a thread of pixels is widened to: the pyramid's coarsest step needs something to stand on.
_LEAST_SIDE = 32


class CocoObjects(ObjectSource):
    """Detected things as objects.

    Args:
        count: N, how many regions to keep.
        short_side: Length in pixels to which the shorter side of an image is resized ...
        long_side: ... unless the longer one would exceed this many.
        nms: Overlap (intersection over union) above which the less confident of two regions is
            dropped.
        proposals: Number of regions of the proposal network, from which ``count`` are chosen; each
            passes through the box head, so they are a large part of the cost.
        name_threshold: Least confidence of a name that is likely right, 0 to 1; the published
            detector is commonly shown so, it was not calibrated here.
    """

    feature_size: int = 1024
    vocabulary: Sequence[str] = COCO_CATEGORIES

    def __init__(
        self,
        *,
        count: int = 10,
        short_side: int = 800,
        long_side: int = 1333,
        nms: float = 0.5,
        proposals: int = 300,
        name_threshold: float = 0.5,
    ) -> None:
        super().__init__()
        self.name_threshold = name_threshold
        self.count = count
        self.short_side = short_side
        self.long_side = long_side
        self.nms = nms
        self.detector = fasterrcnn_resnet50_fpn_v2(
            weights=None,
            weights_backbone=None,
            num_classes=len(_CATEGORIES),
            min_size=short_side,
            max_size=long_side,
            rpn_post_nms_top_n_test=proposals,
        )
        self.register_buffer("named", torch.tensor(_NAMED), persistent=False)
        self.eval().requires_grad_(False)

    named: torch.Tensor

    def train(self, mode: bool = True) -> CocoObjects:
        """Stays in evaluation mode: the source is frozen, its statistics too."""
        return super().train(False)

    @torch.inference_mode()
    def select(self, images: Sequence[torch.Tensor]) -> Objects:
        """The ``count`` most confident things of each image (uint8, 3xHxW, any sizes).

        Images pass one by one: side by side they would be padded to a common size, and the padding
        changes what is found, so that an image's objects would depend on its neighbours. It costs
        little: one image fills a processor.
        """
        found = [self._detect(image) for image in images]
        return stack_regions(
            [regions for regions, _ in found],
            [features for _, features in found],
            count=self.count,
        )

    def _detect(self, image: torch.Tensor) -> tuple[Regions, torch.Tensor]:
        """The regions of one image, and the features of its R proposals, Rx1024."""
        detector, heads = self.detector, self.detector.roi_heads
        pixels = self._fit(image).to(self.named.device).float() / 255.0
        seen, _ = detector.transform([pixels])
        maps = detector.backbone(seen.tensors)
        proposals, _ = detector.rpn(seen, maps)
        features = heads.box_head(heads.box_roi_pool(maps, proposals, seen.image_sizes))  # Rx1024
        logits, deltas = heads.box_predictor(features)  # RxC, Rx(4C)
        # Without any proposal the coder leaves classes and sides in one dimension.
        boxes = heads.box_coder.decode(deltas, proposals).reshape(*logits.shape, 4)  # RxCx4
        height, width = image.shape[-2:]
        regions = distinct_regions(
            boxes[:, self.named],
            logits.softmax(dim=1)[:, self.named],
            seen=seen.image_sizes[0],
            decoded=(height, width),
            count=self.count,
            threshold=self.nms,
        )
        return regions, features

    def _fit(self, image: torch.Tensor) -> torch.Tensor:
        """The image (uint8, 3xHxW), if it is larger than the detector sees it, at that size.

        torchvision enlarges well but shrinks without smoothing, and takes four bytes a value.
        """
        height, width = image.shape[-2:]
        shorter, longer = min(height, width), max(height, width)
        scale = min(self.short_side / shorter, self.long_side / longer)
        size = [max(round(height * scale), _LEAST_SIDE), max(round(width * scale), _LEAST_SIDE)]
        thread = round(shorter * scale) < _LEAST_SIDE
        return transforms.resize(image, size, antialias=True) if scale < 1 or thread else image
