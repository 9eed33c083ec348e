"""Objects as the paper has them: regions of a detector trained on Visual Genome (Sec. III-A).

The N most confident of 1,600 kinds of objects, with the 2048-d feature that the detector itself
judges them by, and their most likely attribute. Images go through the detector once: the backbone
sees the batch, res5 sees each proposal, and the features of the regions that are kept are those
that were classified.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torchvision.ops import roi_pool
from torchvision.transforms.v2 import functional as transforms

from handler.stimuli.objects.detectron2_compat import import_detectron2
from handler.stimuli.objects.regions import distinct_regions, stack_regions
from handler.stimuli.objects.source import ObjectSource
from handler.stimuli.stimuli import Objects

UNNAMED: tuple[str, ...] = tuple(f"object {index}" for index in range(1600))
_MEAN_BGR = 102.9801, 115.9465, 122.7717
_STRIDE = 16
_POOLED = 14


class VisualGenomeObjects(ObjectSource):
    """Regions of the Visual Genome detector.

    Args:
        count: N, how many regions to keep.
        proposals: Maximum number of proposals of the region proposal network; time is proportional
            to it.
        short_side: Length in pixels to which the shorter side of an image is resized.
        long_side: Maximum length of the longer side, in pixels.
        nms: Overlap (intersection over union) above which the less confident of two regions is
            dropped.
        min_proposal: Minimum side of a proposal in pixels of the image as decoded. The weights
            dictate this setting and the following ones.
        plus_one: Whether boxes include their last pixels in the convention of the weights; see the
            network.
        vocabulary: Names of the classes.
        attributes: Names of the attributes; if empty, there is no attribute head.
        name_threshold: Least confidence of a name that is likely right, 0 to 1; the published
            detector is commonly shown so, it was not calibrated here.

    Raises:
        VeaError: detectron2 is not installed.
    """

    cpu_batch, gpu_batch = 1, 8  # a batch saves a processor nothing, and its maps are large

    def __init__(
        self,
        *,
        count: int = 10,
        proposals: int = 300,
        short_side: int = 600,
        long_side: int = 1000,
        nms: float = 0.5,
        min_proposal: float = 0.0,
        plus_one: bool = False,
        vocabulary: Sequence[str] = UNNAMED,
        attributes: Sequence[str] = (),
        name_threshold: float = 0.3,
    ) -> None:
        super().__init__()
        self.name_threshold = name_threshold
        import_detectron2()
        # Made of detectron2's classes, so it can be imported only now.
        from handler.stimuli.objects import visual_genome_network as network  # noqa: PLC0415

        self.count = count
        self.proposals = proposals
        self.short_side = short_side
        self.long_side = long_side
        self.nms = nms
        self.min_proposal = min_proposal
        self.plus_one = plus_one
        self.vocabulary = tuple(vocabulary)
        self.attributes = tuple(attributes)
        # Proposals that res5 sees at a time. Each takes 6 MB of memory; more are hardly faster.
        self.slice = 64
        self.feature_size = network.FEATURES
        classes = len(self.vocabulary)
        self.backbone = network.Backbone()
        self.rpn = network.ProposalHead()
        self.res5 = network.build_res5()
        self.box = network.BoxHead(classes=classes)
        self.attribute = (
            network.AttributeHead(classes=classes, attributes=len(self.attributes))
            if self.attributes
            else None
        )
        self.anchors: torch.Tensor
        self.register_buffer("anchors", network.cell_anchors())
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> VisualGenomeObjects:
        """Stays in evaluation mode: the source is frozen, its statistics too."""
        return super().train(False)

    @torch.inference_mode()
    def select(self, images: Sequence[torch.Tensor]) -> Objects:
        """The ``count`` most confident regions of each image (uint8, 3xHxW, any sizes)."""
        decoded = [(image.shape[-2], image.shape[-1]) for image in images]
        sizes = [self._seen(size) for size in decoded]
        features, map_sizes = self.backbone(self._batch(images, sizes), sizes)
        scales = [  # from decoded pixels to those that the network sees, in x and y
            (width / old_width, height / old_height)
            for (height, width), (old_height, old_width) in zip(sizes, decoded, strict=True)
        ]
        proposals = self.rpn.propose(
            features,
            self.anchors,
            map_sizes=map_sizes,
            sizes=sizes,
            smallest=[self.min_proposal * min(scale) for scale in scales],
            count=self.proposals,
            plus_one=self.plus_one,
        )
        regions, kept = [], self._features(features, proposals)
        for size, scale, boxes, of_boxes in zip(decoded, scales, proposals, kept, strict=True):
            logits, deltas = self.box(of_boxes)
            boxes = boxes / boxes.new_tensor(scale * 2)  # noqa: PLW2901
            regions.append(
                distinct_regions(
                    self.box.decode(deltas, boxes, plus_one=self.plus_one),
                    logits.float().softmax(dim=1)[:, :-1],
                    seen=size,
                    decoded=size,
                    count=self.count,
                    threshold=self.nms,
                )
            )
        objects = stack_regions(regions, [one.float() for one in kept], count=self.count)
        objects.attributes = self._attributes(objects)
        return objects

    def _seen(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of an image as the network sees it; never less than one cell."""
        scale = min(self.short_side / min(size), self.long_side / max(size))
        height, width = (max(int(side * scale + 0.5), _STRIDE) for side in size)
        return height, width

    def _batch(
        self, images: Sequence[torch.Tensor], sizes: Sequence[tuple[int, int]]
    ) -> torch.Tensor:
        """What the weights were trained on: BGR, 0 to 255, less the mean; Bx3xHxW, filled up."""
        weight = self.backbone.stem.conv1.weight
        height, width = (max(sides) for sides in zip(*sizes, strict=True))
        batch = weight.new_zeros(len(images), height, width, 3).permute(0, 3, 1, 2)  # channels last
        mean = torch.tensor(_MEAN_BGR, device=weight.device).view(3, 1, 1)
        for row, image, size in zip(batch, images, sizes, strict=True):
            resized = transforms.resize(image, list(size), antialias=True).to(weight.device)
            row[:, : size[0], : size[1]] = resized.flip(0).float() - mean
        return batch

    def _features(
        self, features: torch.Tensor, proposals: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        """The feature of each proposal: for each image Rx2048."""
        rois = torch.cat(
            [
                torch.cat([boxes.new_full((len(boxes), 1), image), boxes], dim=1)
                for image, boxes in enumerate(proposals)
            ]
        )
        maps = features.float()  # RoIPool knows no bfloat16
        pooled = [features.new_empty(0, self.feature_size)]
        for some in rois.split(self.slice):
            regions = roi_pool(maps, some, _POOLED, 1 / _STRIDE).to(
                features.dtype,
                memory_format=torch.channels_last,  # an eighth faster on processors
            )
            pooled.append(self.res5(regions).mean(dim=(2, 3)))
        return torch.cat(pooled).split([len(boxes) for boxes in proposals])

    def _attributes(self, objects: Objects) -> torch.Tensor | None:
        """The most likely attribute of each region, int64, BxN, -1 where there is no region."""
        if self.attribute is None:
            return None
        features = objects.features.to(self.attribute.fc_attr.weight.dtype)
        logits = self.attribute(features, objects.labels)
        return logits[..., :-1].argmax(dim=-1).masked_fill(~objects.mask, -1)
