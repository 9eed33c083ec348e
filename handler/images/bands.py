"""Decoded pictures of any mode -> RGB tensors, in bands of rows.

A conversion needs several times the memory of its picture. It is done for a few rows at a time, so
that a picture needs little more than its own pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from handler.images.colour import to_srgb

_BAND_PIXELS = 1_000_000
_ALPHA = frozenset("Aa")
_GREY_MODES = frozenset({"1", "L", "LA"})
_MULTIPLIED = {"La": "LA", "RGBa": "RGBA"}  # colours that were multiplied with their alpha
_READY_MODES = frozenset({"RGB", "L", "CMYK"})
_DEEP_WHITE = 65535.0

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Interpretation:
    """What the samples of a picture mean, as far as Pillow does not know it.

    Attributes:
        profile: Embedded colour profile; empty if there is none.
        white: Value of white in a picture of more than 8 bits; None if the format does not say.
        zero_is_white: Whether the samples of a deep grey picture count darkness.
        transparent: Transparent colour in the samples of the decoded picture, or None.
        ignore_alpha: Whether the alpha channel is unused.
    """

    profile: bytes = b""
    white: float | None = None
    zero_is_white: bool = False
    transparent: tuple[int, ...] | None = None
    ignore_alpha: bool = False


def to_pixels(image: Image.Image, how: Interpretation) -> torch.Tensor:
    """Convert a decoded picture.

    Args:
        image: Loaded picture of any mode.
        how: Meaning of its samples.

    Returns:
        uint8 tensor of shape 3xHxW: RGB in sRGB, transparency laid on white.
    """
    width, height = image.size
    scale = _scale_of(image, how) if is_deep(image.mode) else None
    pixels = torch.empty((3, height, width), dtype=torch.uint8)
    for top, band in bands_of(image):
        rgb = _rgb(band, how) if scale is None else _deep_rgb(band, scale, how)
        rows = torch.from_numpy(np.array(rgb)).permute(2, 0, 1)
        pixels[:, top : top + band.height] = rows
    return pixels


def convert_rgb(pixels: torch.Tensor, mode: str, profile: bytes) -> torch.Tensor:
    """Bring the colours of a decoded picture to sRGB, in place.

    Args:
        pixels: uint8 tensor of shape 3xHxW.
        mode: ``RGB``, or ``L`` for three equal channels.
        profile: Embedded colour profile.

    Returns:
        The same tensor.
    """
    _, height, width = pixels.shape
    rows = _rows_of_a_band(width)
    for top in range(0, height, rows):
        band = pixels[:, top : top + rows]
        values = band[0] if mode == "L" else band.permute(1, 2, 0)
        image = Image.fromarray(values.contiguous().numpy())
        rgb = np.array(to_srgb(image, profile).convert("RGB"))
        band.copy_(torch.from_numpy(rgb).permute(2, 0, 1))
    return pixels


def bands_of(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Divide a picture into bands of rows.

    Args:
        image: Loaded picture.

    Yields:
        Each band from top to bottom, with the number of its first row.
    """
    width, height = image.size
    rows = _rows_of_a_band(width)
    if rows >= height:
        yield 0, image
        return
    for top in range(0, height, rows):
        yield top, image.crop((0, top, width, min(top + rows, height)))


def is_deep(mode: str) -> bool:
    """Whether samples of a Pillow mode have more than 8 bits."""
    return mode.startswith("I") or mode == "F"


def has_alpha(image: Image.Image) -> bool:
    """Whether a picture has an alpha channel."""
    return not _ALPHA.isdisjoint(image.getbands())


def _rows_of_a_band(width: int) -> int:
    return max(1, _BAND_PIXELS // max(width, 1))


def _rgb(image: Image.Image, how: Interpretation) -> Image.Image:
    if image.mode in _MULTIPLIED:
        image = image.convert(_MULTIPLIED[image.mode])
    colours = _in_srgb(image, how.profile)
    if how.transparent is not None:
        return _paint_white(colours, _equals(image, how.transparent))
    if how.ignore_alpha or not (has_alpha(image) or "transparency" in image.info):
        return colours
    rgba = image.convert("RGBA")
    if how.profile:
        colours.putalpha(rgba.getchannel("A"))
        rgba = colours
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB")


def _in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    if profile and image.mode not in _READY_MODES:
        image = image.convert("L" if image.mode in _GREY_MODES else "RGB")
    return to_srgb(image, profile).convert("RGB")


def _equals(image: Image.Image, colour: tuple[int, ...]) -> Array:
    """Which pixels have a colour, HxW."""
    values = np.asarray(image.convert("L") if image.mode == "1" else image)
    if values.ndim == 2:
        return np.asarray(values == colour[0])
    return np.asarray((values[..., :3] == colour).all(axis=-1))


def _paint_white(image: Image.Image, where: Array) -> Image.Image:
    values = np.array(image)
    values[where] = 255
    return Image.fromarray(values)


def _deep_rgb(image: Image.Image, scale: float, how: Interpretation) -> Image.Image:
    # Pillow clips 16-bit grey to 8 bits; a photo would turn white.
    values = _values(image)
    grey = np.clip(np.rint(values * scale), 0, 255).astype(np.uint8)
    if how.zero_is_white:
        grey = 255 - grey
    rgb = to_srgb(Image.fromarray(grey), how.profile).convert("RGB")
    if how.transparent is None:
        return rgb
    return _paint_white(rgb, np.asarray(values == how.transparent[0]))


def _scale_of(image: Image.Image, how: Interpretation) -> float:
    """What brings the values of a deep picture to 0..255."""
    if how.white is not None:
        return 255.0 / how.white
    if image.mode.startswith("I;16"):
        return 255.0 / _DEEP_WHITE
    top = max(float(_values(band).max(initial=0.0)) for _, band in bands_of(image))
    if image.mode == "F" and top <= 1.0:
        return 255.0
    # 32-bit integers and unbounded floats do not say what white is.
    return 255.0 / _DEEP_WHITE if top > 255 else 1.0


def _values(image: Image.Image) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.nan_to_num(np.asarray(image, dtype=np.float64))
