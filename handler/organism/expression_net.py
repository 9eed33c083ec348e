"""Expression-Net: the expression of the largest face (Sec. III-B3).

    v_e = G_avg(FCN(I_e)) where there is a face, else the zero vector    (11)

The paper's FCN is the ResNet-18 of its authors' FER2013 work, made for small pictures: a 3x3
stride-1 stem without max-pooling. `width` scales it (64: the paper's, d3 = 512).
"""

from __future__ import annotations

import torch
from torch import nn

from handler.values.configs import LAST_STAGE


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al., CVPR 2016, Fig. 2).

    Weights have torchvision's names. Its own class is not used, because importing torchvision takes
    as long as importing torch.

    Args:
        planes_in: Number of channels of the input.
        planes: Number of channels of the output.
        stride: Stride of the first convolution.
        downsample: Shortcut that changes the shape; None where input and output have one shape.
    """

    def __init__(
        self, planes_in: int, planes: int, *, stride: int = 1, downsample: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(
            planes_in, planes, kernel_size=3, stride=stride, padding=1, bias=False
        )
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = downsample

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features, BxCxHxW, to features of ``planes`` channels, smaller by the stride."""
        shortcut = features if self.downsample is None else self.downsample(features)
        inner = self.relu(self.bn1(self.conv1(features)))
        return self.relu(self.bn2(self.conv2(inner)) + shortcut)


class FaceResNet(nn.Sequential):
    """ResNet-18 for 48x48 grey faces: Bx1x48x48 -> Bx(8*width)x6x6."""

    def __init__(self, width: int) -> None:
        stem = nn.Sequential(
            nn.Conv2d(1, width, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        stages, planes = [], width
        for stage in range(4):
            stages.append(_stage(planes, width << stage, stride=1 if stage == 0 else 2))
            planes = width << stage
        super().__init__(stem, *stages)


def _stage(planes_in: int, planes: int, *, stride: int) -> nn.Sequential:
    shortcut = None
    if stride != 1 or planes_in != planes:
        shortcut = nn.Sequential(
            nn.Conv2d(planes_in, planes, kernel_size=1, stride=stride, bias=False),
            nn.BatchNorm2d(planes),
        )
    return nn.Sequential(
        BasicBlock(planes_in, planes, stride=stride, downsample=shortcut),
        BasicBlock(planes, planes),
    )


class ExpressionNet(nn.Module):
    """The expression of faces.

    Args:
        width: Channels of the first stage.
        compiled: Module that computes `extract`; by default it is built with torch.
    """

    def __init__(self, *, width: int = 64, compiled: nn.Module | None = None) -> None:
        super().__init__()
        self.is_compiled = compiled is not None
        self.faces = FaceResNet(width) if compiled is None else compiled
        self.feature_size = LAST_STAGE * width

    def forward(self, crops: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Faces to expression features.

        Args:
            crops: I_e, uint8 or float, Bx1x48x48, 0 to 255.
            mask: Images that have a face, bool, B. The others are not computed, so that they do not
                affect the batch statistics.

        Returns:
            v_e, Bxd3; zero rows without a face.
        """
        if not bool(mask.any()):
            shape = len(crops), self.feature_size
            return torch.zeros(shape, dtype=self._dtype, device=crops.device)
        seen = self.extract(crops[mask])
        features = torch.zeros(len(crops), self.feature_size, dtype=seen.dtype, device=crops.device)
        return features.index_put((mask.nonzero(as_tuple=True)[0],), seen)

    def extract(self, crops: torch.Tensor) -> torch.Tensor:
        """The features of images that all have a face: crops, Bx1x48x48, to v_e, Bxd3."""
        if self.is_compiled:
            return self.faces(crops)
        return self.faces(crops.to(self._dtype) / 255.0).mean(dim=(2, 3))

    @property
    def _dtype(self) -> torch.dtype:
        return next((weight.dtype for weight in self.parameters()), torch.float32)
