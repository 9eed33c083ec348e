"""NanoDet-g: a small detector of COCO's 80 things, boxes, names and features in one pass.

Lyu ("NanoDet", 2020; the variant "g", for GPUs, which is made of plain convolutions): a cross-stage
partial network, three of its maps joined by a path aggregation network of 128 channels, and a head
for each map. A head tells, for each cell, how likely each thing is and, as in generalised focal
loss (Li et al., NeurIPS 2020), a distribution over the distance from the cell to each side of the
box.

The weights have their batch norms folded in already, and the stem takes RGB, where the published
one takes BGR.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

CLASSES, CHANNELS = 80, 128
STRIDES = (8, 16, 32)
_BINS = 11  # distances of 0 to 10 cells
_ANSWERS = CLASSES + 4 * _BINS
# RGB, 0 to 255.
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_STAGES = ((32, 1, 1), (64, 2, 2), (128, 2, 2), (256, 3, 2))  # channels, blocks, stride


class NanoDet(nn.Module):
    """The whole detector: pixels in, what each cell of the three maps holds out.

    Args:
        compiled: Trunk that takes images as they are; by default torch's, which takes normalised
            ones.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, *, compiled: nn.Module | None = None) -> None:
        super().__init__()
        self.is_compiled = compiled is not None
        self.trunk = NanoDetTrunk() if compiled is None else compiled
        statistics = torch.tensor([_MEAN, _STD]).view(2, 1, 3, 1, 1)
        self.register_buffer("mean", statistics[0], persistent=False)
        self.register_buffer("std", statistics[1], persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (uint8, Bx3xHxW, RGB, sides multiples of 32) to cells; see `NanoDetTrunk`."""
        if self.is_compiled:
            return self.trunk(images)
        pixels = (images.to(self.mean.dtype) - self.mean) / self.std
        return self.trunk(pixels.contiguous(memory_format=torch.channels_last))


class NanoDetTrunk(nn.Module):
    """The layers of the detector."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _convolution(3, 32, stride=2)
        self.stages = nn.ModuleList()
        into, widths = 32, []
        for channels, blocks, stride in _STAGES:
            self.stages.append(_Stage(into, channels, blocks=blocks, stride=stride))
            into = 2 * channels
            widths.append(into)
        self.laterals = nn.ModuleList(nn.Conv2d(width, CHANNELS, 1) for width in widths[1:])
        self.heads = nn.ModuleList(
            nn.Sequential(_convolution(CHANNELS, CHANNELS), nn.Conv2d(CHANNELS, _ANSWERS, 1))
            for _ in STRIDES
        )

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels to cells.

        Args:
            pixels: Normalised pixels, float, Bx3xHxW, sides multiples of 32.

        Returns:
            float, Bx252xM, for each cell of the three maps, one map after the other, row by row: a
            feature of 128 numbers, a logit for each of 80 things, and 11 logits for each side of
            the box (left, top, right, bottom).
        """
        x = F.max_pool2d(self.stem(pixels), 3, stride=2, padding=1)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        fine, middle, coarse = (
            lateral(x) for lateral, x in zip(self.laterals, maps[1:], strict=True)
        )
        middle = middle + _resized(coarse, 2.0)
        fine = fine + _resized(middle, 2.0)
        middle = middle + _resized(fine, 0.5)
        coarse = coarse + _resized(middle, 0.5)
        joined = (fine, middle, coarse)
        cells = [torch.cat([x, head(x)], 1) for x, head in zip(joined, self.heads, strict=True)]
        return torch.cat([x.flatten(2) for x in cells], dim=2)


def map_sides(side: int) -> list[int]:
    """Side in cells of each of the three maps of a square image."""
    return [side // stride for stride in STRIDES]


def decode_boxes(distances: torch.Tensor, cells: torch.Tensor, side: int) -> torch.Tensor:
    """The boxes that some cells tell.

    Args:
        distances: The last 44 of what `NanoDetTrunk` yields of a square image, Bx44xM.
        cells: Indices of the wanted cells, int64, BxR.
        side: Side of the image in pixels.

    Returns:
        float32, BxRx4, xyxy, in pixels, within the image.
    """
    wanted = distances.gather(2, cells.unsqueeze(1).expand(-1, distances.shape[1], -1)).float()
    chances = wanted.unflatten(1, (4, _BINS)).softmax(dim=2)  # Bx4x11xR
    bins = torch.arange(_BINS, dtype=torch.float32, device=distances.device)
    reach = torch.einsum("bskr,k->brs", chances, bins)  # BxRx4, in cells
    centres, strides = (part[cells] for part in _centres(side, distances.device))
    reach = reach * strides.unsqueeze(-1)
    boxes = torch.cat([centres - reach[..., :2], centres + reach[..., 2:]], dim=-1)
    return boxes.clamp(0.0, float(side))


def pool_features(
    maps: torch.Tensor, boxes: torch.Tensor, side: int, levels: Sequence[int]
) -> torch.Tensor:
    """The mean feature in each box on each map, side by side.

    Args:
        maps: The first 128 of what `NanoDetTrunk` yields of a square image, Bx128xM.
        boxes: Boxes, float, BxNx4, xyxy, in pixels of that image.
        side: Side of the image in pixels.
        levels: Side of each map in cells, as `map_sides` yields it.

    Returns:
        float, BxNx384. Cells count as far as they lie within the box.
    """
    pooled, start = [], 0
    for cells in levels:
        level = maps[..., start : start + cells**2].unflatten(2, (cells, cells))
        start += cells**2
        in_cells = boxes * (cells / side)
        across = _coverage(in_cells[..., 0], in_cells[..., 2], cells)
        down = _coverage(in_cells[..., 1], in_cells[..., 3], cells)
        pooled.append(torch.einsum("bny,bcyx,bnx->bnc", down, level, across))
    return torch.cat(pooled, dim=-1)


def _coverage(first: torch.Tensor, last: torch.Tensor, cells: int) -> torch.Tensor:
    """Share of each cell of a row in the interval from ``first`` to ``last`` (BxN each), BxNxC.

    The shares of an interval sum to 1.
    """
    edges = torch.arange(cells, device=first.device, dtype=first.dtype)
    inside = torch.minimum(last.unsqueeze(-1), edges + 1) - torch.maximum(
        first.unsqueeze(-1), edges
    )
    inside = inside.clamp(min=0.0)
    return inside / inside.sum(dim=-1, keepdim=True).clamp(min=1e-6)


def _centres(side: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Centre (Mx2, x and y) and stride (M) of each cell of the three maps, in pixels."""
    centres, strides = [], []
    for cells, stride in zip(map_sides(side), STRIDES, strict=True):
        middle = (torch.arange(cells, device=device) + 0.5) * stride
        y, x = torch.meshgrid(middle, middle, indexing="ij")
        centres.append(torch.stack([x, y], dim=-1).flatten(0, 1))
        strides.append(torch.full((cells**2,), float(stride), device=device))
    return torch.cat(centres), torch.cat(strides)


class _Stage(nn.Module):
    """A cross-stage partial block: what passes the small blocks beside what does not."""

    def __init__(self, into: int, channels: int, *, blocks: int, stride: int) -> None:
        super().__init__()
        self.entry = _convolution(into, channels, stride=stride)
        self.blocks = nn.Sequential(*(_Block(channels) for _ in range(blocks)))
        self.exit = _convolution(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        entered = self.entry(x)
        return torch.cat([self.exit(self.blocks(entered)), entered], dim=1)


class _Block(nn.Module):
    """Two convolutions of half the channels, the second's result before the first's."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _convolution(channels, channels // 2)
        self.second = _convolution(channels // 2, channels // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        half = self.first(x)
        return torch.cat([self.second(half), half], dim=1)


def _convolution(into: int, out: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(into, out, 3, stride=stride, padding=1), nn.LeakyReLU(0.1, inplace=True)
    )


def _resized(x: torch.Tensor, scale: float) -> torch.Tensor:
    return F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)
