"""What an image may be called, and what it may cost before anything of it is decoded."""

from __future__ import annotations

from dataclasses import dataclass

# How files of these formats are named, for those who list folders.
SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".pjpeg", ".pjp", ".mpo"),
        *(".png", ".apng", ".gif", ".webp", ".bmp", ".dib", ".tif", ".tiff"),
        *(".avif", ".avifs", ".heic", ".heif", ".hif", ".ppm", ".pgm", ".pbm", ".pnm"),
    }
)


@dataclass(frozen=True)
class ImageLimits:
    """What an image may cost before anything is decoded.

    Attributes:
        max_bytes: Maximum encoded size in bytes.
        max_pixels: Maximum width times height; a decoded pixel needs three bytes of memory.
        max_side: Maximum length of the longer side, in pixels. A picture of one column and millions
            of rows has few pixels, but needs gigabytes to be resized to a square.
        max_passes: Maximum number of passes of a progressive JPEG of ``max_pixels`` over its
            pixels; a smaller one may have more. Encoders write some ten scans, and a file with
            three thousand would occupy a processor for many minutes.
    """

    max_bytes: int = 20 * 1024 * 1024
    max_pixels: int = 64_000_000
    max_side: int = 65_535
    max_passes: int = 20
