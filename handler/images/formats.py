"""Formats of image files, told from their first bytes.

Only formats that hold photographs. Pillow knows many more (PostScript, fonts, video containers),
and each of them is a parser that a stranger's bytes would reach.
"""

from __future__ import annotations

JPEG, PNG, GIF, WEBP, BMP = "JPEG", "PNG", "GIF", "WEBP", "BMP"
TIFF, AVIF, PPM, HEIF = "TIFF", "AVIF", "PPM", "HEIF"
_FORMATS = (JPEG, PNG, GIF, WEBP, BMP, TIFF, AVIF, PPM)
_SIGNATURES = (
    (b"\xff\xd8\xff", JPEG),
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"GIF87a", GIF),
    (b"GIF89a", GIF),
    (b"BM", BMP),
    *((start, TIFF) for start in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    *((b"P%c" % kind, PPM) for kind in b"123456f"),
)
# Brands of ISO base media files (ISO/IEC 14496-12): the four bytes behind `ftyp`, and each fourth
# byte after the version. AVIF files may name a general brand first.
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"mif2"}
)
_MAX_BRANDS = 64


def list_formats() -> str:
    """Names of the formats that every installation reads, for people."""
    return ", ".join(_FORMATS)


def format_of(data: bytes) -> str | None:
    """The format of an image file, one of this module's names, or None for anything else."""
    for start, name in _SIGNATURES:
        if data.startswith(start):
            return name
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return WEBP
    brands = brands_of(data)
    if not _AVIF_BRANDS.isdisjoint(brands):
        return AVIF
    return None if _HEIF_BRANDS.isdisjoint(brands) else HEIF


def brands_of(data: bytes) -> frozenset[bytes]:
    """Brands of an ISO base media file; empty for any other."""
    if data[4:8] != b"ftyp":
        return frozenset()
    end = min(int.from_bytes(data[:4], "big"), len(data), 4 * _MAX_BRANDS)
    return frozenset(data[at : at + 4] for at in (8, *range(16, end, 4)))
