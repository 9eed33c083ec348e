"""What training does to the colour stimulus: random crops and mirrors, the same whenever repeated.

Which crop a photo gets follows from (seed, epoch, row) alone: not from the photos beside it, nor
from the process that cuts it, nor from where an interrupted run was resumed.
"""

from __future__ import annotations

import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as transforms

from handler.values.configs import SelectorConfig
from train.recipes.training import TrainingConfig

# Only a square of the shorter side is kept: a thread of pixels is cut before it is enlarged.
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
    """The view that ``seed`` chooses; torch's own generator is left as it was."""
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
