"""Convolutional backbones by name: timm's architectures, without their pooling and classifier.

One table row a backbone: its feature size and the pixel statistics that its ImageNet weights were
trained with. `resnet50` and `resnet18` are the paper's, `resnet101` is their
larger sister; `tf_efficientnet_lite0` and its larger sister `tf_efficientnet_lite2` are the light
ones.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import nn

from handler.values.backbones import backbone_spec


class BackboneRuntime(Protocol):
    """Where the trunks of an archive's backbones come from.

    Attributes:
        name: ``"torch"`` or ``"onnx"``.
    """

    name: str

    def trunk(self, part: str) -> nn.Module | None:
        """Compiled trunk of a part of the archive.

        Args:
            part: One of `handler.values.backbones`: `GLOBAL`, `OBJECTS`, `FACES` or `EXPRESSION`.

        Returns:
            Module that maps uint8 RGB images, Bx3xHxW, to feature maps, float, BxFxhxw (for the
            light object source to cells, BxFxM; for `EXPRESSION` faces, Bx1x48x48, to features,
            BxF); None where the trunk is built with torch and filled with the archive's weights.
        """

    def shared(self) -> nn.Module | None:
        """One pass for Global-Net and the grid object source, which share their first layers.

        Returns:
            Module that maps uint8 RGB images, Bx3xHxW, to the feature maps of `GLOBAL` and of
            `OBJECTS`, float, BxFxhxw each: what the two trunks give one by one; and to the logits
            of the objects' classifier in each cell, float, BxCxhxw, or None where the classifier
            has yet to be applied. None in place of the module where no layer is shared.
        """


class TorchRuntime:
    """Every trunk is built with timm."""

    name = "torch"

    def trunk(self, part: str) -> nn.Module | None:
        """As `BackboneRuntime.trunk`: always None."""
        return None

    def shared(self) -> nn.Module | None:
        """As `BackboneRuntime.shared`: always None."""
        return None


class Backbone(nn.Module):
    """uint8 RGB images -> feature maps.

    Args:
        name: Key of `BACKBONES`.
        compiled: Trunk that takes images as they are; by default timm's, which takes normalised
            ones.
        classes: Number of outputs of a classifier beside the trunk; 0 for none. Only the grid
            object source has one, to name and rank its cells.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, name: str, *, classes: int = 0, compiled: nn.Module | None = None) -> None:
        super().__init__()
        spec = backbone_spec(name)
        self.name = name
        self.feature_size = spec.feature_size
        self.is_compiled = compiled is not None
        # Any: timm's trunks have attributes of their own.
        self.trunk: Any = _build_trunk(name) if compiled is None else compiled
        self.classifier = nn.Linear(spec.feature_size, classes) if classes else None
        # Pixel statistics on the 0..255 scale: one subtraction and one division an image.
        statistics = torch.tensor([spec.mean, spec.std]).view(2, 1, 3, 1, 1) * 255.0
        self.register_buffer("mean", statistics[0], persistent=False)
        self.register_buffer("std", statistics[1], persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images to feature maps.

        Args:
            images: uint8, or float where the trunk is not compiled, Bx3xHxW, 0 to 255.

        Returns:
            float, BxFxhxw.
        """
        if self.is_compiled:
            return self.trunk(images)
        pixels = (images.to(self.mean.dtype) - self.mean) / self.std
        return self.trunk(pixels.contiguous(memory_format=torch.channels_last))


def _build_trunk(name: str) -> Any:
    # Imported on demand: it takes a second, and a compiled trunk does without.
    import timm  # noqa: PLC0415

    trunk = timm.create_model(name, pretrained=False, num_classes=0, global_pool="")
    # Depthwise convolutions on a CPU are twice as fast with the channels last.
    return trunk.to(memory_format=torch.channels_last)
