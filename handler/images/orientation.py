"""Which way up a picture is (EXIF 2.32, tag 0x0112), by one reader for every format.

Only this tag is looked for. Nothing else of the metadata is read, so that neither damage there nor
its size matters, and all decoders get the same answer. As in browsers, XMP is not asked.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from handler.images.tiff_directory import read_directory

TAG = 0x0112
_UPRIGHT = 1
_HIGHEST = 8


def orientation_of(blocks: Iterable[bytes]) -> int:
    """The orientation that the first block which has one gives.

    Args:
        blocks: EXIF data, each from its TIFF header on, in the order of the file.

    Returns:
        1 to 8 as EXIF numbers them; 1, upright, where none says so.
    """
    for block in blocks:
        directory = read_directory(block, (TAG,))
        value = directory.first(TAG, 0) if directory is not None else 0
        if _UPRIGHT <= value <= _HIGHEST:
            return value
    return _UPRIGHT


def upright(pixels: torch.Tensor, orientation: int) -> torch.Tensor:
    """Turn and mirror a picture as its orientation asks.

    Args:
        pixels: Tensor of shape CxHxW as it was stored.
        orientation: 1 to 8 as EXIF numbers them.

    Returns:
        Tensor of shape CxHxW, or CxWxH for orientations 5 to 8.
    """
    if orientation == _UPRIGHT:
        return pixels
    # EXIF: 2 mirrors, 3 turns by half, 4 is both; 5 to 8 exchange rows and columns before.
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 2)
    flipped = {2: (1,), 3: (0, 1), 4: (0,), 5: (), 6: (1,), 7: (0, 1), 8: (0,)}[orientation]
    turned = torch.empty(pixels.shape, dtype=pixels.dtype)
    for target, channel in zip(turned, pixels, strict=True):  # one at a time: flips are copies
        target.copy_(channel.flip(flipped))
    return turned
