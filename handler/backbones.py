"""Convolutional backbones by name: timm's architectures, without their pooling and classifier.

One table row a backbone: its feature size and the pixel statistics that its ImageNet weights were
trained with. `resnet50` and `resnet18` are the paper's, `resnet101` is their
larger sister; `tf_efficientnet_lite0` and its larger sister `tf_efficientnet_lite2` are the light
ones.
"""

from __future__ import annotations

import timm
import torch
from torch import nn

from handler.values.backbones import backbone_spec


class Backbone(nn.Module):
    """uint8 RGB images -> feature maps.

    Args:
        name: Key of `BACKBONES`.
        classes: Number of outputs of a classifier beside the trunk; 0 for none. Only the grid
            object source has one, to name and rank its cells.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, name: str, *, classes: int = 0) -> None:
        super().__init__()
        spec = backbone_spec(name)
        self.name = name
        self.feature_size = spec.feature_size
        self.trunk = timm.create_model(name, pretrained=False, num_classes=0, global_pool="")
        # Depthwise convolutions on a CPU are twice as fast with the channels last.
        self.trunk.to(memory_format=torch.channels_last)
        self.classifier = nn.Linear(spec.feature_size, classes) if classes else None
        # Pixel statistics on the 0..255 scale: one subtraction and one division an image.
        statistics = torch.tensor([spec.mean, spec.std]).view(2, 1, 3, 1, 1) * 255.0
        self.register_buffer("mean", statistics[0], persistent=False)
        self.register_buffer("std", statistics[1], persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Args: images: uint8 or float, Bx3xHxW, 0 to 255. Returns: float, BxFxhxw."""
        pixels = (images.to(self.mean.dtype) - self.mean) / self.std
        return self.trunk(pixels.contiguous(memory_format=torch.channels_last))
