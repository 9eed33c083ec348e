"""Pictures made smaller, cut and grey: pixels in, pixels out, with torch alone.

The numbers are those of ``torchvision.transforms.v2``, which the shipped models were trained with.
Importing torchvision takes as long as importing torch, which a program that scores one photo feels.
"""

from __future__ import annotations

import torch
from torch.nn import functional

# For other processors torch has no kernel for bytes.
_NATIVE = ("AVX2", "AVX512")
_RED, _GREEN, _BLUE = 0.2989, 0.587, 0.114  # ITU-R BT.601


def resize(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize with antialiased bilinear interpolation.

    Args:
        image: uint8, CxHxW, on any device.
        size: Height and width of the result, in pixels.

    Returns:
        uint8, C x height x width; ``image`` itself if it has this size.
    """
    if tuple(image.shape[-2:]) == size:
        return image
    native = image.device.type == "cpu" and torch.backends.cpu.get_cpu_capability() in _NATIVE
    batch = image.unsqueeze(0)
    resized = functional.interpolate(
        batch if native else batch.float(),
        size=list(size),
        mode="bilinear",
        align_corners=False,
        antialias=True,
    )
    return resized.squeeze(0) if native else resized.squeeze(0).round_().to(torch.uint8)


def resize_shorter(image: torch.Tensor, length: int) -> torch.Tensor:
    """Resize (uint8, CxHxW) so that the shorter side has ``length`` pixels."""
    height, width = image.shape[-2:]
    longer = int(length * max(height, width) / min(height, width))
    return resize(image, (length, longer) if height <= width else (longer, length))


def crop_centre(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The centre of an image (uint8, CxHxW), which must not be smaller than ``size``."""
    top, left = (
        round((there - wanted) / 2) for there, wanted in zip(image.shape[-2:], size, strict=True)
    )
    return image[..., top : top + size[0], left : left + size[1]]


def to_grey(image: torch.Tensor) -> torch.Tensor:
    """RGB (uint8, 3xHxW) -> brightness, uint8, 1xHxW."""
    red, green, blue = image.unbind(0)
    grey = red.mul(_RED).add_(green, alpha=_GREEN).add_(blue, alpha=_BLUE)
    return grey.to(torch.uint8).unsqueeze(0)
