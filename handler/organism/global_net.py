"""Global-Net: colour and every other global feature from the whole image (Sec. III-B1).

    F_g = FCN(I_g)      (1)
    v_g = G_avg(F_g)    (2)

The paper's FCN is a ResNet-50, d1 = 2048; the backbone is configuration.
"""

from __future__ import annotations

import torch
from torch import nn

from handler.backbones import Backbone


class GlobalNet(nn.Module):
    """Whole images -> v_g and F_g.

    Args:
        backbone: Key of `handler.values.backbones.BACKBONES`.
        compiled: Compiled trunk of the backbone; by default it is built with timm.
    """

    def __init__(self, backbone: str, *, compiled: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone = Backbone(backbone, compiled=compiled)
        self.feature_size = self.backbone.feature_size

    def forward(
        self, colour: torch.Tensor, feature_map: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Whole images to global features.

        Args:
            colour: I_g, uint8 or float, Bx3xHxW, 0 to 255.
            feature_map: F_g, where it has been computed along with the objects.

        Returns:
            v_g, Bxd1, and the feature map F_g, Bxd1xhxw, which class activation maps need.
        """
        if feature_map is None:
            feature_map = self.backbone(colour)
        return feature_map.mean(dim=(2, 3)), feature_map
