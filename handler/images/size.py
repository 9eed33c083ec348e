"""Limits on the size of an image and on the work of decoding it, checked before it is decoded."""

from __future__ import annotations

from handler.images.refusal import ImageRefused
from handler.values.limits import ImageLimits


def require_bytes(data: bytes, limits: ImageLimits) -> None:
    """Refuse an empty file (400) and one that is too large (413).

    Args:
        data: Complete encoded image.
        limits: Limits on the image.

    Raises:
        ImageRefused: The file is empty or exceeds the limit.
    """
    if not data:
        raise ImageRefused(400, "the image is empty (0 bytes)")
    if len(data) > limits.max_bytes:
        raise ImageRefused(
            413, f"the image has {len(data)} bytes; at most {limits.max_bytes} are accepted"
        )


def require_size(width: int, height: int, limits: ImageLimits) -> None:
    """Refuse an image of too many pixels, or of too many on a side.

    Args:
        width: Number of columns that the header states.
        height: Number of rows that the header states.
        limits: Limits on the image.

    Raises:
        ImageRefused: The image exceeds a limit (413) or has no pixels (422).
    """
    if width < 1 or height < 1:
        raise ImageRefused(422, f"the image header is damaged: {width}x{height} pixels")
    if width * height > limits.max_pixels:
        raise too_many_pixels(limits, f"{width}x{height} pixels")
    if max(width, height) > limits.max_side:
        raise ImageRefused(
            413,
            f"the image has {width}x{height} pixels; "
            f"at most {limits.max_side} are accepted on a side",
        )


def too_many_pixels(limits: ImageLimits, size: str = "far too many pixels") -> ImageRefused:
    """A 413 for an image of too many pixels."""
    return ImageRefused(413, f"the image has {size}; at most {limits.max_pixels} are accepted")


def require_work(work: int, description: str, limits: ImageLimits) -> None:
    """Refuse an image whose decoding goes over its pixels too often.

    Args:
        work: Number of pixels that are decoded, each counted once for every pass.
        description: Cause of the work, as the beginning of a sentence.
        limits: Limits on the image.

    Raises:
        ImageRefused: The work exceeds that of the largest accepted image (413).
    """
    if work > limits.max_passes * limits.max_pixels:
        raise ImageRefused(413, f"{description}, which takes too long")
