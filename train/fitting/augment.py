"""Augmentation of the colour stimulus: random crops and horizontal flips that can be reproduced.

The crop of a photo follows from (seed, epoch, row) alone: not from the other photos of the batch,
the process that cuts it, or the step at which an interrupted run was resumed.
"""

from __future__ import annotations

import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as transforms

from handler.values.configs import SelectorConfig
from train.recipes.training import TrainingConfig

# Only a square of the shorter side is kept: a very long picture is cut before it is enlarged.
_LONGEST_RATIO = 4


def build_augmentation(config: TrainingConfig, selector: SelectorConfig) -> v2.Transform:
    """Image (uint8, 3xHxW) -> random view (uint8, 3xCxC).

    It takes the colour stimulus for ``random_resized_crop``, the whole photo for ``random_crop``
    (Sec. IV-B of the paper).
    """
    steps: list[v2.Transform]
    if config.augment == "random_crop":
        steps = [
            _ShortenThread(),
            v2.Resize(selector.resize, antialias=True),
            v2.RandomCrop(config.crop),
        ]
    else:
        steps = [v2.RandomResizedCrop(config.crop, scale=config.crop_scale, antialias=True)]
    if config.flip:
        steps.append(v2.RandomHorizontalFlip())
    return v2.Compose(steps)


def apply_seeded(augmentation: v2.Transform, image: torch.Tensor, seed: int) -> torch.Tensor:
    """A view drawn with ``seed``; the state of torch's own generator does not change."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return augmentation(image)


class _ShortenThread(v2.Transform):
    """Cuts the ends off a picture that is more than four times as long as it is wide."""

    def transform(self, inpt: torch.Tensor, params: object) -> torch.Tensor:
        longest = _LONGEST_RATIO * min(inpt.shape[-2:])
        if max(inpt.shape[-2:]) <= longest:
            return inpt
        return transforms.center_crop(inpt, [min(side, longest) for side in inpt.shape[-2:]])
