"""BlazeFace, full range: a network that finds faces up to five metres away (MediaPipe).

Bazarevsky, Kartynnik, Vakunov, Raveendran, Grundmann: BlazeFace: Sub-millisecond Neural Face
Detection on Mobile GPUs, 2019; the full-range form of 2021. Depthwise convolutions of 3x3, each
with a 1x1 convolution behind it, in pairs with a narrow middle; four scales, joined from the
coarsest to the finest; one score and 16 coordinates for each place of a grid. The published batch
norms are part of the convolutions already.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

STRIDE = 4
"""Pixels from one place, for which the network gives an answer, to the next."""
ANSWER = 17
"""Values of an answer: the score's logit, centre, width and height of the box, and six points."""

# Of each scale, finest first: channels in the narrow middle, channels, and number of blocks. The
# first block of a scale but the first halves the resolution.
_SCALES = ((8, 32, 2), (16, 64, 3), (32, 128, 3), (48, 192, 3), (96, 384, 4))
# Of each joining, coarsest first: channels, and number of blocks.
_JOINS = ((96, 2), (64, 2), (48, 1))


class _Block(nn.Module):
    """Two pairs of convolutions, beside which the input passes where the shapes allow it."""

    def __init__(self, channels: int, middle: int, out: int, *, stride: int = 1) -> None:
        super().__init__()
        self.passes = stride == 1 and channels == out
        self.narrow = _pair(channels, middle, stride=stride)
        self.widen = _pair(middle, out)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        changed = self.widen(functional.relu(self.narrow(features)))
        return functional.relu(features + changed if self.passes else changed)


class _Join(nn.Module):
    """A coarse scale enlarged, added to a finer one, and refined."""

    def __init__(self, coarse: int, fine: int, channels: int, blocks: int) -> None:
        super().__init__()
        self.coarse = nn.Conv2d(coarse, channels, 1)
        self.fine = nn.Conv2d(fine, channels, 1)
        self.blocks = nn.Sequential(
            *(_Block(channels, channels // 2, channels) for _ in range(blocks))
        )

    def forward(self, coarse: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
        enlarged = functional.interpolate(
            functional.relu(self.coarse(coarse)),
            scale_factor=2,
            mode="bilinear",
            align_corners=False,
        )
        return self.blocks(functional.relu(self.fine(fine)) + enlarged)


class _Head(nn.Module):
    """Values for each place: four places share a cell of the convolution, side by side."""

    def __init__(self, channels: int, values: int) -> None:
        super().__init__()
        self.values = values
        self.point = nn.Conv2d(channels, 4 * values, 1)
        self.depth = nn.Conv2d(4 * values, 4 * values, 3, 2, 1, groups=4 * values)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        cells = self.depth(self.point(features))
        images, _, height, width = cells.shape
        # TensorFlow's order: which of the four places comes first, then which value.
        places = cells.reshape(images, 2, 2, self.values, height, width)
        places = places.permute(0, 3, 4, 1, 5, 2)
        return places.reshape(images, self.values, 2 * height, 2 * width)


class BlazeFace(nn.Module):
    """Square images -> an answer for each place of a grid."""

    def __init__(self) -> None:
        super().__init__()
        channels = _SCALES[0][1]
        self.stem = nn.Conv2d(3, channels, 3, 2, 1)
        self.scales = nn.ModuleList()
        for number, (middle, out, blocks) in enumerate(_SCALES):
            scale = [_Block(channels, middle, out, stride=2 if number else 1)]
            scale += [_Block(out, middle, out) for _ in range(blocks - 1)]
            self.scales.append(nn.Sequential(*scale))
            channels = out
        self.joins = nn.ModuleList()
        for (_, fine, _), (out, blocks) in zip(_SCALES[-2:0:-1], _JOINS, strict=True):
            self.joins.append(_Join(channels, fine, out, blocks))
            channels = out
        self.score = _Head(channels, 1)
        self.place = _Head(channels, ANSWER - 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images to answers.

        Args:
            images: RGB, uint8 or float, Bx3xSxS, 0 to 255; S is a multiple of 32. Published for
                192.

        Returns:
            float, Bx17xS/4xS/4: the logit of the score; then, in pixels of the image and relative
            to the middle of the place, x and y of the box's centre, its width and height, and x and
            y of the right eye, the left eye, the tip of the nose, the middle of the mouth, and the
            right and left ear.
        """
        features = functional.relu(self.stem(images.to(self.stem.weight.dtype) / 127.5 - 1))
        found = []
        for scale in self.scales:
            features = scale(features)
            found.append(features)
        for join, fine in zip(self.joins, found[-2:0:-1], strict=True):
            features = join(features, fine)
        return torch.cat([self.score(features), self.place(features)], dim=1)


def _pair(channels: int, out: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, stride, 1, groups=channels),
        nn.Conv2d(channels, out, 1),
    )
