"""Bytes in, pixels out: one RGB uint8 tensor for any picture that people really have.

Rules, equal for all formats:

- A picture whose pixels are all in the file is read, whatever else of the file is missing, damaged
  or too much: end markers, metadata, colour profiles, bytes behind the picture. A picture of which
  pixels are missing is refused.
- The file's first picture counts: the first frame of an animation, the first view of a stereo
  photo.
- It is turned as EXIF says (`orientation`), its embedded colour profile is applied (`colour`), and
  transparency is laid on white.
- A hostile file costs no more than the largest honest one: bytes, pixels and the passes of a JPEG
  over its pixels are counted before anything is decoded (`size`), and conversions are done in bands
  (`bands`).

What cannot be read is refused with `ImageRefused`, which says why in words and as a status code.
"""

from __future__ import annotations

import torch

from handler.images import jpeg, pillow_formats
from handler.images.formats import HEIF, JPEG, format_of, list_formats
from handler.images.refusal import ImageRefused, what_it_is
from handler.images.size import require_bytes
from handler.values.limits import ImageLimits

DECODING = 2
"""Version of the rules above. It is raised when a file gives other pixels than before, so that what
was computed from its pixels and kept is computed again."""


def decode(data: bytes, limits: ImageLimits | None = None) -> torch.Tensor:
    """Decode one image.

    Args:
        data: Complete encoded image.
        limits: Limits above which an image is refused; the defaults fit phone cameras.

    Returns:
        uint8 tensor of shape 3xHxW, RGB in sRGB, values 0 to 255, turned as EXIF says.

    Raises:
        ImageRefused: ``data`` cannot be decoded, or exceeds a limit.
    """
    limits = limits or ImageLimits()
    data = bytes(data)
    require_bytes(data, limits)
    file_format = _format_of(data)
    if file_format == JPEG:
        return jpeg.decode(data, limits)
    return pillow_formats.decode(data, file_format, limits)


def pixels_of(data: bytes, limits: ImageLimits | None = None) -> int:
    """How many pixels an encoded image says that it has; 0 if it cannot be read."""
    try:
        file_format = _format_of(data)
        if file_format == JPEG:
            width, height = jpeg.size_of(data)
        else:
            width, height = pillow_formats.size_of(data, file_format, limits or ImageLimits())
    except ImageRefused:
        return 0
    return width * height


def _format_of(data: bytes) -> str:
    """The format of a file that can be read; raises `ImageRefused` for any other."""
    file_format = format_of(data)
    if file_format is not None and pillow_formats.is_readable(file_format):
        return file_format
    if file_format == HEIF:
        raise ImageRefused(
            415,
            "the data is a HEIC or HEIF image, which is read only where the Python package "
            "pillow-heif is installed (extra heic)",
        )
    kind = what_it_is(data)
    beginning = f"the data is {kind}, not" if kind else "the data is not"
    raise ImageRefused(415, f"{beginning} an image of a known format ({list_formats()})")
