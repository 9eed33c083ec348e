"""The parts of the Visual Genome detector, made of detectron2's (bottom-up attention).

Anderson et al. ("Bottom-Up and Top-Down Attention for Image Captioning and Visual Question
Answering", CVPR 2018) trained a Faster R-CNN on Visual Genome, and most work that reasons over
objects, the paper's Semantic-Net among it (Sec. III-A), takes its regions. It is a ResNet-101 "C4":
stages up to res4 see the image, res5 sees each proposal. From detectron2's it differs in four
places, since it was trained in Caffe: the stem's max-pool has no padding and rounds up, res5 keeps
the resolution and is dilated, RoIs are pooled by RoIPool, and an attribute head looks at the class.

Boxes: the weights that were trained with ``plus_one`` hold x2, y2 to be the last pixel inside a
box, so that its width is x2 - x1 + 1 (py-faster-rcnn, and its port to PyTorch by MILVLG). With
x2 + 1, y2 + 1, its outer edges, such a box obeys everyone else's arithmetic: decoding, clipping,
overlaps and smallest sides give the very figures of the originals. Only RoIPool takes the pixels.

Images of different sizes share one pass, filled up to a common size. A convolution would see the
filling of earlier layers at an image's border; so it is blanked in front of each 3x3 convolution,
and a picture's regions do not depend on the pictures beside it.

Import this module only after `import_detectron2`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.backbone.resnet import BasicStem, BottleneckBlock, ResNet
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.proposal_generator.proposal_utils import find_top_rpn_proposals
from detectron2.modeling.proposal_generator.rpn import StandardRPNHead
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from torch import nn
from torch.nn import functional as F

STRIDE = 16
FEATURES = 2048
_MAP_CHANNELS = 1024
_BLOCKS = {"res2": 3, "res3": 4, "res4": 23}
_ANCHOR_SIDES = (64, 128, 256, 512)
_ANCHOR_RATIOS = (0.5, 1.0, 2.0)
_RPN_OVERLAP, _RPN_CANDIDATES = 0.7, 6000

Size = tuple[int, int]


class Backbone(nn.Module):
    """Stem, res2, res3 and res4 of a ResNet-101, strides in the 1x1 convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = BasicStem(norm="FrozenBN")
        channels, width = 64, 64
        for name, blocks in _BLOCKS.items():
            stride = 1 if name == "res2" else 2
            stage = ResNet.make_stage(
                BottleneckBlock,
                blocks,
                stride_per_block=[stride] + [1] * (blocks - 1),
                in_channels=channels,
                out_channels=4 * width,
                bottleneck_channels=width,
                stride_in_1x1=True,
                norm="FrozenBN",
            )
            self.add_module(name, nn.Sequential(*stage))
            channels, width = 4 * width, 2 * width

    def forward(
        self, images: torch.Tensor, sizes: Sequence[Size]
    ) -> tuple[torch.Tensor, list[Size]]:
        """Images -> the map that proposals and regions are read from.

        Args:
            images: Images, float, Bx3xHxW, BGR, mean subtracted, padded with zeros.
            sizes: Height and width of each image without padding.

        Returns:
            Features, Bx1024xhxw at 1/16 of the resolution, zero outside each image; and each
            image's height and width in it.
        """
        features = F.relu_(self.stem.conv1(images))
        sizes = _halved(sizes)
        # What is blanked cannot win a maximum over values that are not negative.
        features = F.max_pool2d(_blank(features, sizes), 3, stride=2, ceil_mode=True)
        sizes = [(height // 2, width // 2) for height, width in sizes]
        for name in _BLOCKS:
            for block in self.get_submodule(name).children():
                sizes = _halved(sizes) if block.stride == 2 else sizes
                features = _bottleneck(block, features, sizes)
        return _blank(features, sizes), list(sizes)


class ProposalHead(StandardRPNHead):
    """Region proposal network: detectron2's head, and what is done with its answers."""

    def __init__(self) -> None:
        anchors = len(_ANCHOR_SIDES) * len(_ANCHOR_RATIOS)
        super().__init__(in_channels=_MAP_CHANNELS, num_anchors=anchors, conv_dims=[512])
        self.transform = Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0))

    def propose(
        self,
        features: torch.Tensor,
        anchors: torch.Tensor,
        *,
        map_sizes: Sequence[Size],
        sizes: Sequence[Size],
        smallest: Sequence[float],
        count: int,
        plus_one: bool,
    ) -> list[torch.Tensor]:
        """The most promising boxes of each image.

        Args:
            features: Bx1024xhxw, of `Backbone`.
            anchors: float32, Ax4, xyxy, around the centre of the first cell.
            map_sizes: Height and width of each image in ``features``.
            sizes: Height and width of each image in pixels as the network sees it.
            smallest: Minimum side of a proposal of each image, in the same pixels.
            count: Maximum number of proposals for an image.
            plus_one: Convention of the boxes; see above.

        Returns:
            For each image float32, Rx4, xyxy, clipped to the image, the most promising first.
        """
        (logits,), (deltas,) = self([features])
        batch, per_cell, rows, columns = logits.shape
        edge = _edge(anchors, plus_one)
        grid = _every_cell(anchors.float() + edge, rows, columns)  # (hwA)x4
        deltas = deltas.view(batch, per_cell, 4, rows, columns).permute(0, 3, 4, 1, 2)
        boxes = self.transform.apply_deltas(deltas.reshape(-1, 4), grid.repeat(batch, 1))
        boxes = boxes.view(batch, -1, 4) + edge
        logits = logits.float().permute(0, 2, 3, 1).contiguous()  # BxhxwxA
        for row, ((high, wide), size, side) in enumerate(
            zip(map_sizes, sizes, smallest, strict=True)
        ):
            # Nothing from the filling, nor, before the best are chosen, what is too small.
            logits[row, high:], logits[row, :, wide:] = -torch.inf, -torch.inf
            logits[row].view(-1)[_short(boxes[row], size, side)] = -torch.inf
        found = find_top_rpn_proposals(
            [boxes],
            [logits.flatten(1)],
            list(sizes),
            nms_thresh=_RPN_OVERLAP,
            pre_nms_topk=_RPN_CANDIDATES,
            post_nms_topk=count,
            min_box_size=0.0,
            training=False,
        )
        return [image.proposal_boxes.tensor - edge for image in found]


class BoxHead(FastRCNNOutputLayers):
    """Class logits (background last) and one box for each class, from a region's feature."""

    def __init__(self, *, classes: int) -> None:
        super().__init__(
            ShapeSpec(channels=FEATURES),
            box2box_transform=Box2BoxTransform(weights=(10.0, 10.0, 5.0, 5.0)),
            num_classes=classes,
        )

    def decode(
        self, deltas: torch.Tensor, proposals: torch.Tensor, *, plus_one: bool
    ) -> torch.Tensor:
        """Each class's box of each proposal.

        Args:
            deltas: Rx(4C), the head's answer.
            proposals: float32, Rx4, xyxy.
            plus_one: Convention of ``proposals``; see above.

        Returns:
            float32, RxCx4, xyxy, the outer edges whatever the convention.
        """
        edge = _edge(proposals, plus_one)
        boxes = self.box2box_transform.apply_deltas(deltas, proposals + edge)
        return boxes.view(len(proposals), self.num_classes, 4) + edge


class AttributeHead(nn.Module):
    """Attributes of a region (colour, material, state ...), told from its feature and its class."""

    def __init__(self, *, classes: int, attributes: int) -> None:
        super().__init__()
        self.cls_embedding = nn.Embedding(classes + 1, 256)
        self.fc_attr = nn.Linear(FEATURES + 256, 512)
        self.attr_score = nn.Linear(512, attributes + 1)  # the last says that there is none

    def forward(self, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Features (...x2048) and labels (int64, ...) -> logits, ...x(attributes + 1)."""
        seen = torch.cat([features, self.cls_embedding(labels).to(features.dtype)], dim=-1)
        return self.attr_score(F.relu(self.fc_attr(seen)))


def build_res5() -> nn.Sequential:
    """What sees each proposal: three blocks, 1024 -> 2048 channels, dilated instead of strided."""
    return nn.Sequential(
        *ResNet.make_stage(
            BottleneckBlock,
            3,
            stride_per_block=[1, 1, 1],
            in_channels=_MAP_CHANNELS,
            out_channels=FEATURES,
            bottleneck_channels=512,
            stride_in_1x1=True,
            dilation=2,
            norm="FrozenBN",
        )
    )


def cell_anchors() -> torch.Tensor:
    """The anchors of one cell, float32, 12x4, where the weights bring none of their own."""
    generator = DefaultAnchorGenerator(
        sizes=[list(_ANCHOR_SIDES)], aspect_ratios=[list(_ANCHOR_RATIOS)], strides=[STRIDE]
    )
    return generator.generate_cell_anchors(_ANCHOR_SIDES, _ANCHOR_RATIOS)


def _bottleneck(
    block: BottleneckBlock, features: torch.Tensor, sizes: Sequence[Size]
) -> torch.Tensor:
    """The forward pass of ``block``, with the filling blanked where its 3x3 convolution sees it."""
    inner = _blank(F.relu_(block.conv1(features)), sizes)
    inner = block.conv3(F.relu_(block.conv2(inner)))
    inner += features if block.shortcut is None else block.shortcut(features)
    return F.relu_(inner)


def _blank(features: torch.Tensor, sizes: Sequence[Size]) -> torch.Tensor:
    """Zero, in place, where an image of the batch does not reach."""
    for image, (height, width) in zip(features, sizes, strict=True):
        image[:, height:] = 0
        image[:, :, width:] = 0
    return features


def _halved(sizes: Sequence[Size]) -> list[Size]:
    """After a stride of two, rounded up."""
    return [((height + 1) // 2, (width + 1) // 2) for height, width in sizes]


def _edge(like: torch.Tensor, plus_one: bool) -> torch.Tensor:
    """What leads from the last pixels of a box to its outer edges."""
    return torch.tensor([0.0, 0.0, plus_one, plus_one], device=like.device)


def _every_cell(anchors: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Anchors of the first cell (Ax4) -> of all cells, (hwA)x4, row by row."""
    y = torch.arange(rows, device=anchors.device) * STRIDE
    x = torch.arange(columns, device=anchors.device) * STRIDE
    y, x = torch.meshgrid(y, x, indexing="ij")
    shifts = torch.stack([x, y, x, y], dim=-1).view(-1, 1, 4)
    return (shifts + anchors).view(-1, 4)


def _short(boxes: torch.Tensor, size: Size, side: float) -> torch.Tensor:
    """Which boxes (Rx4) have a side shorter than ``side`` inside the image; bool, R."""
    height, width = size
    limit = torch.tensor([width, height], device=boxes.device)
    low, high = boxes[:, :2].clamp(min=0), torch.minimum(boxes[:, 2:], limit)
    return (high - low < side).any(dim=1)
