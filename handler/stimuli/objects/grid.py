"""Objects without a detector: places of a frozen backbone's feature map.

Jiang et al. ("In Defense of Grid Features for Visual Question Answering", CVPR 2020) found that
the cells of a convolutional feature map serve as well as detected regions where a network reasons
over objects, at a fraction of the cost. A place is one cell of the map, or a window of them, whose
feature is their mean: on each level l, l x l overlapping windows cover the picture (Tolias et al.,
"Particular Object Retrieval with Integral Max-Pooling of CNN Activations", ICLR 2016), so that
things of all sizes have a window that fits. Each place is ranked by the backbone's own ImageNet
classifier applied there; the N most confident are the object stimulus, as the paper ranks proposals
by confidence (Sec. III-A). That confidence does not make a name true: names are found apart, by
`name_windows`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from handler.backbones import Backbone
from handler.resizing import resize
from handler.stimuli.objects.classifier_logits import ComputedLogits, PrecomputedLogits
from handler.stimuli.objects.imagenet_names import NAMES, membership
from handler.stimuli.objects.source import ObjectSource
from handler.stimuli.objects.window_names import name_windows
from handler.stimuli.stimuli import Objects
from handler.values.checks import check_number

_CATEGORIES = Path(__file__).with_name("imagenet_categories.txt")
IMAGENET_CATEGORIES: tuple[str, ...] = tuple(_CATEGORIES.read_text(encoding="utf-8").splitlines())


class GridObjects(ObjectSource):
    """Places of a feature map as objects.

    Args:
        backbone: Name of the frozen backbone.
        size: Side in pixels of the square input image of the backbone.
        count: N, how many places to keep.
        levels: Number of windows along a side on each level, as in ``[1, 3]`` for the whole picture
            and 3 x 3 windows; empty for the single cells.
        name_threshold: Least score of a name that is likely right, 0 to 1.
        compiled: Compiled trunk of the backbone; by default it is built with timm.

    Raises:
        ValueError: A level is not an integer of at least 1.
    """

    vocabulary: Sequence[str] = IMAGENET_CATEGORIES
    names: Sequence[str] = NAMES

    def __init__(
        self,
        *,
        backbone: str = "tf_efficientnet_lite0",
        size: int = 224,
        count: int = 10,
        levels: Sequence[int] = (),
        name_threshold: float = 0.7,
        compiled: nn.Module | None = None,
    ) -> None:
        if not all(isinstance(level, int) and level >= 1 for level in levels):
            raise ValueError(f"levels are {list(levels)}: expected whole numbers of at least 1")
        check_number("size", size, least=32, whole=True)
        super().__init__()
        self.backbone = Backbone(backbone, classes=len(IMAGENET_CATEGORIES), compiled=compiled)
        self.size = size
        self.count = count
        self.levels = tuple(levels)
        self.name_threshold = name_threshold
        self.register_buffer("members", membership(), persistent=False)
        self.feature_size = self.backbone.feature_size
        self.eval().requires_grad_(False)

    members: torch.Tensor

    def train(self, mode: bool = True) -> GridObjects:
        """Stays in evaluation mode: the source is frozen, its statistics too."""
        return super().train(False)

    @torch.inference_mode()
    def select(self, images: Sequence[torch.Tensor]) -> Objects:
        """The ``count`` most confident places of each image (uint8, 3xHxW, any sizes)."""
        maps = self.backbone(self.resize(images).to(self.backbone.mean.device))
        return self.places(maps, images)

    @torch.inference_mode()
    def places(
        self,
        maps: torch.Tensor,
        images: Sequence[torch.Tensor],
        logits: torch.Tensor | None = None,
    ) -> Objects:
        """The ``count`` most confident places of feature maps.

        Args:
            maps: Feature maps of the images as `resize` makes them, float, BxFxhxw.
            images: Images as decoded, uint8, each 3xHxW.
            logits: Logits of the classifier for each cell, float, BxCxhxw; computed by default.
        """
        windows = self._windows(*maps.shape[-2:]).to(maps.device)  # Kx4
        # Single cells are what they are; only windows have anything to average.
        cells = maps.flatten(2).transpose(1, 2)  # BxMxF
        inside = _shares(windows, maps)
        places = torch.einsum("km,bmf->bkf", inside, cells) if self.levels else cells  # BxKxF
        assert self.backbone.classifier is not None
        classified = (
            ComputedLogits(self.backbone.classifier, cells, places)
            if logits is None
            else PrecomputedLogits(logits.flatten(2).transpose(1, 2), inside)
        )
        confidence, labels = classified.windows().softmax(-1).max(-1)  # BxK
        scores, kept = confidence.topk(min(self.count, len(windows)), dim=1)  # BxN
        features = places.gather(1, kept.unsqueeze(-1).expand(-1, -1, places.shape[-1]))
        name_scores, names = name_windows(classified, inside, self.members, self.name_threshold)
        return Objects(
            features=features,
            boxes=_boxes(windows[kept], maps.shape[-2:], images),
            scores=scores,
            labels=labels.gather(1, kept),
            mask=torch.ones_like(kept, dtype=torch.bool),
            names=names.gather(1, kept),
            name_scores=name_scores.gather(1, kept),
        )

    def resize(self, images: Sequence[torch.Tensor]) -> torch.Tensor:
        """Images (uint8, 3xHxW, any sizes) as the backbone sees them, uint8, Bx3xSxS."""
        return torch.stack([resize(image, (self.size, self.size)) for image in images])

    def _windows(self, rows: int, columns: int) -> torch.Tensor:
        """All places of a map, int64, Kx4, xyxy in cells, right and bottom exclusive."""
        if not self.levels:
            return _grid(_starts(rows, 1, rows), 1, _starts(columns, 1, columns), 1)
        levels = []
        for level in self.levels:
            # Windows of a level overlap by half, and together reach from edge to edge.
            height, width = (max(2 * side // (level + 1), 1) for side in (rows, columns))
            levels.append(
                _grid(_starts(rows, height, level), height, _starts(columns, width, level), width)
            )
        return torch.cat(levels)


def count_windows(levels: Sequence[int]) -> int:
    """How many places a picture has, at any size, on these levels; 0 where places are cells."""
    return sum(level**2 for level in levels)


def _starts(side: int, length: int, count: int) -> torch.Tensor:
    """Where ``count`` windows of ``length`` cells begin, spread evenly over ``side`` cells."""
    return torch.linspace(0, side - length, count).round().long()


def _grid(top: torch.Tensor, height: int, left: torch.Tensor, width: int) -> torch.Tensor:
    y, x = torch.meshgrid(top, left, indexing="ij")
    return torch.stack([x, y, x + width, y + height], dim=-1).flatten(0, 1)


def _shares(windows: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Share of each cell of the maps (BxFxhxw) in each window (Kx4), Kx(hw); rows sum to 1."""
    rows, columns = maps.shape[-2:]
    y = torch.arange(rows, device=maps.device)
    x = torch.arange(columns, device=maps.device)
    left, top, right, bottom = windows.unsqueeze(-1).unbind(1)  # Kx1 each
    inside_y, inside_x = (y >= top) & (y < bottom), (x >= left) & (x < right)  # Kxh, Kxw
    inside = (inside_y.unsqueeze(2) & inside_x.unsqueeze(1)).flatten(1).to(maps.dtype)  # Kx(hw)
    return inside / inside.sum(dim=1, keepdim=True)


def _boxes(
    windows: torch.Tensor, cells: torch.Size, images: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Windows (BxNx4, in cells) -> boxes in the pixels of the images as decoded, BxNx4."""
    rows, columns = cells
    steps = [
        [i.shape[-1] / columns, i.shape[-2] / rows, i.shape[-1] / columns, i.shape[-2] / rows]
        for i in images
    ]
    return windows.float() * torch.tensor(steps, device=windows.device).unsqueeze(1)
