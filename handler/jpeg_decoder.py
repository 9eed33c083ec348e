"""torchvision's JPEG decoder without the rest of torchvision.

The decoder is one compiled operator in a library of its own. ``torchvision.io`` would import every
model and operator of torchvision before it, which takes as long as importing torch.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

_RGB = 3  # torchvision.io.ImageReadMode.RGB


def decode_rgb_jpeg(data: torch.Tensor) -> torch.Tensor:
    """Decode a JPEG file of one or three components.

    Args:
        data: Encoded image, uint8, one-dimensional.

    Returns:
        uint8, 3xHxW, RGB; not turned, whatever its EXIF data says.

    Raises:
        RuntimeError: The file cannot be decoded.
    """
    return _operator()(data, _RGB, False)


@cache
def _operator() -> Any:
    found = find_spec("torchvision")
    places = list(found.submodule_search_locations or []) if found else []
    libraries = [file for place in places for file in sorted(Path(place).glob("image*.so"))]
    if libraries:
        torch.ops.load_library(str(libraries[0]))
        return torch.ops.image.decode_jpeg
    # Other systems name their libraries otherwise: torchvision finds its own.
    import torchvision.io  # noqa: F401, PLC0415

    return torch.ops.image.decode_jpeg
