"""The Visual Genome detector once more, written down plainly, to compare with.

It reads the published files in their own layouts, with their own order of classes, scores and
boxes, and shares no code with the importers, with `VisualGenomeObjects`, or with detectron2:
convolutions and pooling from torch, RoIPool and non-maximum suppression from torchvision, the rest
is arithmetic. From the originals it departs where the object stimulus does: of each proposal the
best class is kept, and near copies are dropped across classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F
from torchvision.ops import nms, roi_pool
from torchvision.transforms.v2 import functional as transforms

ANCHORS = "proposal_generator.anchor_generator.cell_anchors.0"
_PREDICTOR = "roi_heads.box_predictor"
_STRIDE = 16
_SCALE_LIMIT = math.log(1000 / 16)


@dataclass(frozen=True)
class Layout:
    """How one family of files means its numbers.

    Attributes:
        caffe: background first, two logits an anchor, boxes known by their last pixels.
        box_weights: what the deltas of the second stage are divided by.
        least_side: of a proposal, in pixels of the image as decoded.
        head: names of the attribute head's three layers.
    """

    caffe: bool
    box_weights: tuple[float, float, float, float]
    least_side: float
    head: tuple[str, str, str]


AIRSPLAY = Layout(False, (10.0, 10.0, 5.0, 5.0), 0.0, ("cls_embedding", "fc_attr", "attr_score"))
MILVLG = Layout(True, (1.0, 1.0, 1.0, 1.0), 16.0, ("cls_embed", "attr_linear1", "attr_linear2"))


@dataclass
class Found:
    """n regions, most confident first: nx4 (outer edges, decoded pixels), n, n, n, nx2048."""

    boxes: torch.Tensor
    scores: torch.Tensor
    labels: torch.Tensor
    attributes: torch.Tensor | None
    features: torch.Tensor
    background_won: torch.Tensor


@torch.inference_mode()
def detect(
    weights: dict[str, torch.Tensor],
    layout: Layout,
    image: torch.Tensor,
    *,
    size: tuple[int, int],
    anchors: torch.Tensor,
    proposals: int,
    count: int,
) -> Found:
    """The regions of one image (uint8, 3xHxW), seen at ``size``, cell anchors 12x4."""
    height, width = image.shape[-2:]
    scale = size[0] / height
    assert size == (round(height * scale), round(width * scale)), "one scale for both sides"
    seen = transforms.resize(image, list(size), antialias=True).flip(0).float()
    seen = seen - torch.tensor([102.9801, 115.9465, 122.7717]).view(3, 1, 1)
    maps = _trunk(weights, seen[None])
    boxes = _propose(weights, layout, maps, anchors, size, scale)[:proposals]
    rois = torch.cat([torch.zeros(len(boxes), 1), boxes], dim=1)
    pooled = roi_pool(maps, rois, 14, 1 / _STRIDE)
    for block in range(3):
        pooled = _block(weights, f"roi_heads.res5.{block}", pooled, stride=1, dilation=2)
    features = pooled.mean(dim=(2, 3))

    logits = _linear(weights, f"{_PREDICTOR}.cls_score", features)
    deltas = _linear(weights, f"{_PREDICTOR}.bbox_pred", features).unflatten(1, (-1, 4))
    chances = logits.softmax(dim=1)
    if layout.caffe:
        background, chances, deltas = chances[:, 0], chances[:, 1:], deltas[:, 1:]
    else:
        background, chances = chances[:, -1], chances[:, :-1]
    scores, labels = chances.max(dim=1)
    chosen = deltas[torch.arange(len(labels)), labels] / torch.tensor(layout.box_weights)
    best = _decode(boxes / scale, chosen, layout.caffe)
    if layout.caffe:  # from last pixels to outer edges
        best = best + torch.tensor([0.0, 0.0, 1.0, 1.0])
    best = _clip(best, height, width, False)
    inside = (best[:, 2:] > best[:, :2]).all(dim=1).nonzero().squeeze(1)
    kept = inside[nms(best[inside], scores[inside], 0.5)][:count]
    attributes = None
    if f"{_PREDICTOR}.{layout.head[2]}.weight" in weights:
        embedding, hidden, last = (f"{_PREDICTOR}.{name}" for name in layout.head)
        meant = weights[f"{embedding}.weight"][logits.argmax(dim=1)]
        told = F.relu(_linear(weights, hidden, torch.cat([features, meant], dim=1)))
        answers = _linear(weights, last, told)
        answers = answers[:, 1:] if layout.caffe else answers[:, :-1]
        attributes = answers.argmax(dim=1)[kept]
    return Found(
        best[kept],
        scores[kept],
        labels[kept],
        attributes,
        features[kept],
        (background > scores)[kept],
    )


def _trunk(weights: dict[str, torch.Tensor], pixels: torch.Tensor) -> torch.Tensor:
    maps = F.relu(_convolve(weights, "backbone.stem.conv1", pixels, stride=2, padding=3))
    maps = F.max_pool2d(maps, 3, stride=2, padding=0, ceil_mode=True)
    for stage, blocks in (("res2", 3), ("res3", 4), ("res4", 23)):
        for block in range(blocks):
            stride = 2 if block == 0 and stage != "res2" else 1
            maps = _block(weights, f"backbone.{stage}.{block}", maps, stride=stride, dilation=1)
    return maps


def _propose(
    weights: dict[str, torch.Tensor],
    layout: Layout,
    maps: torch.Tensor,
    anchors: torch.Tensor,
    size: tuple[int, int],
    scale: float,
) -> torch.Tensor:
    head = "proposal_generator.rpn_head"
    shared = F.relu(
        F.conv2d(maps, weights[f"{head}.conv.weight"], weights[f"{head}.conv.bias"], padding=1)
    )
    logits, deltas = (
        F.conv2d(shared, weights[f"{head}.{name}.weight"], weights[f"{head}.{name}.bias"])[0]
        for name in ("objectness_logits", "anchor_deltas")
    )
    if layout.caffe:
        logits = logits.unflatten(0, (2, 12)).softmax(dim=0)[1]
    rows, columns = logits.shape[-2:]
    scores, placed, moves = [], [], []
    for y in range(rows):
        for x in range(columns):
            for one in range(12):
                scores.append(logits[one, y, x])
                corner = torch.tensor([x, y, x, y]) * float(_STRIDE)
                placed.append(anchors[one] + corner)
                moves.append(deltas[4 * one : 4 * one + 4, y, x])
    boxes = _decode(torch.stack(placed), torch.stack(moves), layout.caffe)
    boxes = _clip(boxes, *size, layout.caffe)
    edge = torch.tensor([0.0, 0.0, 1.0, 1.0]) * layout.caffe
    sides = (boxes + edge)[:, 2:] - boxes[:, :2]
    real = (boxes[:, 2:] > boxes[:, :2]).all(dim=1) & (sides > layout.least_side * scale).all(dim=1)
    boxes, order = boxes[real], torch.stack(scores)[real]
    return boxes[nms(boxes + edge, order, 0.7)]


def _decode(boxes: torch.Tensor, deltas: torch.Tensor, caffe: bool) -> torch.Tensor:
    sides = boxes[:, 2:] - boxes[:, :2] + (1.0 if caffe else 0.0)
    middles = boxes[:, :2] + 0.5 * sides + deltas[:, :2] * sides
    sides = sides * deltas[:, 2:].clamp(max=_SCALE_LIMIT).exp()
    return torch.cat([middles - 0.5 * sides, middles + 0.5 * sides], dim=1)


def _clip(boxes: torch.Tensor, height: float, width: float, caffe: bool) -> torch.Tensor:
    limit = torch.tensor([width, height, width, height], dtype=torch.float32)
    return boxes.clamp(min=0).minimum(limit - (1.0 if caffe else 0.0))


def _block(
    weights: dict[str, torch.Tensor],
    name: str,
    maps: torch.Tensor,
    *,
    stride: int,
    dilation: int,
) -> torch.Tensor:
    inner = F.relu(_convolve(weights, f"{name}.conv1", maps, stride=stride))
    inner = F.relu(_convolve(weights, f"{name}.conv2", inner, padding=dilation, dilation=dilation))
    inner = _convolve(weights, f"{name}.conv3", inner)
    if f"{name}.shortcut.weight" in weights:
        maps = _convolve(weights, f"{name}.shortcut", maps, stride=stride)
    return F.relu(inner + maps)


def _convolve(
    weights: dict[str, torch.Tensor], name: str, maps: torch.Tensor, **options: int
) -> torch.Tensor:
    """Convolution and frozen batch normalisation (epsilon 1e-5)."""
    maps = F.conv2d(maps, weights[f"{name}.weight"], **options)
    weight, bias, mean, variance = (
        weights[f"{name}.norm.{part}"].view(-1, 1, 1)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    return (maps - mean) / torch.sqrt(variance + 1e-5) * weight + bias


def _linear(weights: dict[str, torch.Tensor], name: str, values: torch.Tensor) -> torch.Tensor:
    return values @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
