"""Bytes in, pixels out: one RGB uint8 tensor for any picture that people really have.

Plain JPEGs take torchvision's decoder, everything else Pillow. EXIF rotation is applied,
transparency is laid on white, 16-bit greys are scaled, and of an animation the first frame counts.
What cannot be read is refused with `ImageRefused`, which says why in words and as a status code.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision.io import ImageReadMode, decode_jpeg

# Only formats that hold photographs. Pillow knows many more (PostScript, fonts, video
# containers), and each of them is a parser that a stranger's bytes would reach.
_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "PPM")
# How files of the commonest formats start: what starts so is a damaged image, not a stranger.
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")

# How files of these formats are named, for those who list folders.
SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".mpo", ".png", ".gif", ".webp"),
        *(".bmp", ".tif", ".tiff", ".avif", ".ppm", ".pgm"),
    }
)


@cache
def _readable_formats() -> tuple[str, ...]:
    """Those of the formats that this Pillow was built with."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


class ImageRefused(Exception):
    """An image that gets no prediction.

    Attributes:
        code: HTTP status for this image alone: 400 empty, 413 too large, 415 not an image of a
            known format, 422 an image that cannot be decoded.
        reason: one line for people.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True)
class ImageLimits:
    """What an image may cost before anything is decoded.

    Attributes:
        max_bytes: encoded size in bytes.
        max_pixels: width times height; three bytes of memory each when decoded.
    """

    max_bytes: int = 20 * 1024 * 1024
    max_pixels: int = 64_000_000


def decode(data: bytes, limits: ImageLimits | None = None) -> torch.Tensor:
    """Decode one image.

    Args:
        data: the encoded image, whole.
        limits: refused above these; the defaults fit phone cameras.

    Returns:
        uint8 tensor of shape 3xHxW, RGB, values 0 to 255, turned as EXIF says.

    Raises:
        ImageRefused: no picture could be had from ``data``.
    """
    limits = limits or ImageLimits()
    data = bytes(data)
    if not data:
        raise ImageRefused(400, "the image is empty (0 bytes)")
    if len(data) > limits.max_bytes:
        raise ImageRefused(
            413, f"the image has {len(data)} bytes; at most {limits.max_bytes} are accepted"
        )
    try:
        header = Image.open(io.BytesIO(data), formats=_readable_formats())
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_many_pixels(limits) from None
    except UnidentifiedImageError:
        if data.startswith(_SIGNATURES):
            raise ImageRefused(422, "the image header is damaged or truncated") from None
        raise ImageRefused(415, _not_an_image(data)) from None
    except Exception as error:  # parsers of damaged headers raise nearly anything
        raise ImageRefused(422, f"the image header is damaged: {_line(error)}") from None
    with header:
        width, height = header.size
        if width * height > limits.max_pixels:
            raise _too_many_pixels(limits, width, height)
        try:
            if header.format == "JPEG" and header.mode in ("RGB", "L"):
                return _decode_jpeg(data)
            return _decode_with_pillow(header)
        except MemoryError:
            raise
        except Exception as error:  # likewise for damaged bodies
            raise ImageRefused(
                422, f"the {header.format} image is damaged or truncated: {_line(error)}"
            ) from None


def _decode_jpeg(data: bytes) -> torch.Tensor:
    # frombuffer warns about read-only memory; the decoder only reads it.
    encoded = torch.from_numpy(np.frombuffer(data, dtype=np.uint8).copy())
    return decode_jpeg(encoded, mode=ImageReadMode.RGB, apply_exif_orientation=True)


def _decode_with_pillow(image: Image.Image) -> torch.Tensor:
    image.seek(0)
    image.load()
    return torch.from_numpy(np.array(_to_rgb(_turned(image)))).permute(2, 0, 1).contiguous()


def _turned(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # metadata that cannot be read is no reason to refuse the picture
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _scale_deep_grey(image)
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _scale_deep_grey(image: Image.Image) -> Image.Image:
    # Pillow clips 16-bit grey to 8 bits; a photo would turn white.
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    top = float(values.max(initial=0.0))
    if image.mode.startswith("I;16"):
        scale = 255.0 / 65535.0
    elif image.mode == "F" and top <= 1.0:
        scale = 255.0
    else:  # 32-bit integers and unbounded floats do not say what white is
        scale = 255.0 / 65535.0 if top > 255 else 1.0
    grey = np.clip(np.rint(values * scale), 0, 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def _too_many_pixels(limits: ImageLimits, width: int = 0, height: int = 0) -> ImageRefused:
    size = f"{width}x{height} pixels" if width else "far too many pixels"
    return ImageRefused(413, f"the image has {size}; at most {limits.max_pixels} are accepted")


def _not_an_image(data: bytes) -> str:
    start = data[:256].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<svg")):
        return "the data is markup (HTML, XML or SVG), not a photo"
    return f"the data is not an image of a known format ({', '.join(_FORMATS)})"


def _line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0][:200] if text else type(error).__name__
