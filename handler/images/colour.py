"""Embedded colour profiles (ICC) -> sRGB, the colour space of the networks' training photos.

A profile whose colours are those of sRGB is recognised by what it does to a grid of colours, since
hundreds of profiles describe sRGB, and costs nothing then. A damaged profile is ignored.
"""

from __future__ import annotations

import io
from functools import cache, lru_cache

import numpy as np
from PIL import Image, ImageCms

# Profiles of printers have some two megabytes; a larger one is not worth its reading.
_MAX_PROFILE = 4 * 1024 * 1024
_GRID = 9  # colours to a side of the cube on which two spaces are compared
_SAME = 2  # of 255: differences up to this are the rounding of two ways to write one profile
_MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}
_SPACE = slice(16, 20)  # where a profile's header names its colour space
_SIGNATURE = slice(36, 40)


def profile_mode(profile: bytes | None) -> str:
    """Mode of the pictures that a profile describes: RGB, L or CMYK; empty if it is unusable."""
    if not profile or len(profile) > _MAX_PROFILE or profile[_SIGNATURE] != b"acsp":
        return ""
    return _MODES.get(profile[_SPACE].decode("latin-1"), "")


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The picture with its colours in sRGB, as far as its profile can be used.

    Args:
        image: A picture of mode RGB, L or CMYK.
        profile: The embedded profile, if any.

    Returns:
        A picture of mode RGB if the profile changes anything; else the same picture.
    """
    mode = profile_mode(profile)
    if mode == "RGB" and image.mode == "L":
        image = image.convert("RGB")
    if not profile or mode != image.mode:
        return image
    transform = _transform(profile, mode)
    if transform is None:
        return image
    changed = ImageCms.applyTransform(image, transform)
    return image if changed is None else changed


def changes_colours(profile: bytes | None, mode: str) -> bool:
    """Whether the profile brings pictures of this mode to other colours."""
    described = profile_mode(profile)
    if not profile or not (described == mode or (described, mode) == ("RGB", "L")):
        return False
    return _transform(profile, described) is not None


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """What brings pixels to sRGB; None for sRGB itself and for a profile that cannot be used."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(source, _srgb(), mode, "RGB")
        if mode == "CMYK":
            return transform
        colours = _colours(mode)
        seen = ImageCms.applyTransform(colours, transform)
        if seen is None:
            return None
        before = np.asarray(colours.convert("RGB"), dtype=np.int16)
        difference = np.abs(np.asarray(seen, dtype=np.int16) - before)
        return transform if difference.max() > _SAME else None
    except Exception:  # a profile that cannot be read is no reason to refuse the picture
        return None


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _colours(mode: str) -> Image.Image:
    """A picture of the corners and of evenly spaced colours of a mode."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    steps = np.linspace(0, 255, _GRID).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1)
    return Image.fromarray(cube.reshape(1, -1, 3))
