"""Bytes in, pixels out: one RGB uint8 tensor for any picture that people really have.

Plain JPEGs take torchvision's decoder, everything else Pillow. EXIF rotation is applied,
transparency is laid on white, 16-bit greys are scaled, and of an animation the first frame counts.
What cannot be read is refused with `ImageRefused`, which says why in words and as a status code.
A hostile file costs no more than the largest honest one: pixels are counted before anything is
decoded, and so are the scans of a JPEG; conversions go through a picture in bands.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision.io import ImageReadMode, decode_jpeg

from handler.values.limits import ImageLimits

_BAND = 1_000_000  # pixels of a picture that are converted at a time
# Only formats that hold photographs. Pillow knows many more (PostScript, fonts, video
# containers), and each of them is a parser that a stranger's bytes would reach.
_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "PPM")
# How files of the commonest formats start: what starts so is a damaged image, not a stranger.
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")


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
        reason: Reason, one line of text.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def decode(data: bytes, limits: ImageLimits | None = None) -> torch.Tensor:
    """Decode one image.

    Args:
        data: Complete encoded image.
        limits: Limits above which an image is refused; the defaults fit phone cameras.

    Returns:
        uint8 tensor of shape 3xHxW, RGB, values 0 to 255, turned as EXIF says.

    Raises:
        ImageRefused: ``data`` cannot be decoded, or exceeds a limit.
    """
    limits = limits or ImageLimits()
    data = bytes(data)
    if not data:
        raise ImageRefused(400, "the image is empty (0 bytes)")
    if len(data) > limits.max_bytes:
        raise ImageRefused(
            413, f"the image has {len(data)} bytes; at most {limits.max_bytes} are accepted"
        )
    header = _open(data, limits)
    with header:
        width, height = header.size
        if width * height > limits.max_pixels:
            raise _too_many_pixels(limits, width, height)
        if max(width, height) > limits.max_side:
            raise ImageRefused(
                413,
                f"the image has {width}x{height} pixels; "
                f"at most {limits.max_side} are accepted on a side",
            )
        try:
            if header.format == "JPEG":
                _require_few_scans(data, width * height, limits)
                if header.mode in ("RGB", "L"):
                    return _decode_jpeg(data)
            return _decode_with_pillow(header)
        except (MemoryError, ImageRefused):
            raise
        except Exception as error:  # likewise for damaged bodies
            raise ImageRefused(
                422, f"the {header.format} image is damaged or truncated: {_line(error)}"
            ) from None


def pixels_of(data: bytes, limits: ImageLimits | None = None) -> int:
    """How many pixels an encoded image says that it has; 0 if it cannot be read."""
    try:
        with _open(data, limits or ImageLimits()) as header:
            return header.size[0] * header.size[1]
    except ImageRefused:
        return 0


def _open(data: bytes, limits: ImageLimits) -> Image.Image:
    """The header; raises: ImageRefused."""
    try:
        return Image.open(io.BytesIO(data), formats=_readable_formats())
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_many_pixels(limits) from None
    except UnidentifiedImageError:
        if data.startswith(_SIGNATURES):
            raise ImageRefused(422, "the image header is damaged or truncated") from None
        raise ImageRefused(415, _not_an_image(data)) from None
    except Exception as error:  # parsers of damaged headers raise nearly anything
        raise ImageRefused(422, f"the image header is damaged: {_line(error)}") from None


def _require_few_scans(data: bytes, pixels: int, limits: ImageLimits) -> None:
    # Inside a scan a byte FF is followed by 00, so these two bytes are its beginning.
    scans = data.count(b"\xff\xda")
    if scans * pixels > limits.max_passes * limits.max_pixels:
        raise ImageRefused(
            413, f"the JPEG image has {scans} scans of {pixels} pixels, which takes too long"
        )


def _decode_jpeg(data: bytes) -> torch.Tensor:
    # frombuffer warns about read-only memory; the decoder only reads it.
    encoded = torch.from_numpy(np.frombuffer(data, dtype=np.uint8).copy())
    return decode_jpeg(encoded, mode=ImageReadMode.RGB, apply_exif_orientation=True)


def _decode_with_pillow(image: Image.Image) -> torch.Tensor:
    image.seek(0)
    image.load()
    turned = _turned(image)
    width, height = turned.size
    scale = _scale_of_deep_grey(turned) if _is_deep(turned) else None
    pixels = torch.empty((3, height, width), dtype=torch.uint8)
    for top, band in _bands(turned):
        rgb = _to_rgb(band) if scale is None else _grey_to_rgb(band, scale)
        rows = torch.from_numpy(np.array(rgb)).permute(2, 0, 1)
        pixels[:, top : top + band.height] = rows
    return pixels


def _bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """A picture from top to bottom in pieces of a few million pixels, each with its first row."""
    width, height = image.size
    rows = max(1, _BAND // max(width, 1))
    if rows >= height:
        yield 0, image
        return
    for top in range(0, height, rows):
        yield top, image.crop((0, top, width, min(top + rows, height)))


def _turned(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # metadata that cannot be read is no reason to refuse the picture
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _is_deep(image: Image.Image) -> bool:
    return image.mode.startswith("I") or image.mode == "F"


def _scale_of_deep_grey(image: Image.Image) -> float:
    """What brings its values to 0..255."""
    if image.mode.startswith("I;16"):
        return 255.0 / 65535.0
    top = max(float(_values(band).max(initial=0.0)) for _, band in _bands(image))
    if image.mode == "F" and top <= 1.0:
        return 255.0
    # 32-bit integers and unbounded floats do not say what white is.
    return 255.0 / 65535.0 if top > 255 else 1.0


def _grey_to_rgb(image: Image.Image, scale: float) -> Image.Image:
    # Pillow clips 16-bit grey to 8 bits; a photo would turn white.
    grey = np.clip(np.rint(_values(image) * scale), 0, 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def _values(image: Image.Image) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.nan_to_num(np.asarray(image, dtype=np.float64))


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
