"""Files that Pillow decodes -> pixels: every readable format but JPEG.

Each format has one function here that prepares its file: what Pillow would understand differently
from other programs is read, and left out of the file, before Pillow sees it.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from PIL import Image, ImageFile, UnidentifiedImageError

from handler.images import png_chunks, tiff_tags, webp_chunks
from handler.images.bands import Interpretation, has_alpha, is_deep, to_pixels
from handler.images.formats import AVIF, BMP, GIF, HEIF, PNG, PPM, TIFF, WEBP
from handler.images.orientation import orientation_of, upright
from handler.images.refusal import ImageRefused, damaged, one_line, unsupported
from handler.images.size import require_size, require_work, too_many_pixels
from handler.values.limits import ImageLimits

_EXIF = b"Exif\0\0"
_DEEP_WHITE = 65535.0
_BMP_HEADER, _CORE_HEADER = 30, 12  # bytes to the bits of a pixel; the size of the oldest header
_PLAIN_PPM = (b"P1", b"P2", b"P3")
_MAX_COMMENTS = 10_000
# The entry of an item of EXIF data in the list of items of an ISO base media file.
_EXIF_ITEM = re.compile(rb"(infe(?:\x02\0\0.{5}|\x03\0\0.{7}))Exif", re.DOTALL)
_COMMENT = re.compile(rb"#[^\r\n]*")


@dataclass(frozen=True)
class _Prepared:
    """A file as Pillow gets it.

    Attributes:
        data: Encoded image.
        how: Meaning of its samples; ``profile`` only where Pillow cannot tell it.
        exif: Blocks of EXIF data, only where Pillow cannot tell them.
        kind: Kind of the image in words, for a file that Pillow does not know; empty if unknown.
    """

    data: bytes
    how: Interpretation = field(default_factory=Interpretation)
    exif: tuple[bytes, ...] = ()
    kind: str = ""


def is_readable(file_format: str) -> bool:
    """Whether this installation decodes a format."""
    Image.init()
    if file_format == HEIF:
        try:
            import pillow_heif  # noqa: PLC0415 - an extra
        except ImportError:
            return False
        pillow_heif.register_heif_opener(thumbnails=False)
    return file_format in Image.OPEN


def size_of(data: bytes, file_format: str, limits: ImageLimits) -> tuple[int, int]:
    """Size that the header states, without orientation.

    Args:
        data: Complete encoded image.
        file_format: Its format.
        limits: Limits on the image.

    Returns:
        Width and height in pixels.

    Raises:
        ImageRefused: The header cannot be read.
    """
    if file_format == PNG:
        return png_chunks.size_of(data)
    if file_format == TIFF:
        return _read_tiff(data).size
    with _open(_PREPARE.get(file_format, _Prepared)(data), file_format, limits) as image:
        return image.size


def decode(data: bytes, file_format: str, limits: ImageLimits) -> torch.Tensor:
    """Decode a file with Pillow.

    Args:
        data: Complete encoded image.
        file_format: Its format, one that `is_readable`.
        limits: Limits above which an image is refused.

    Returns:
        uint8 tensor of shape 3xHxW: RGB, upright, in sRGB.

    Raises:
        ImageRefused: The image cannot be decoded, or exceeds a limit.
    """
    prepared = _PREPARE.get(file_format, _Prepared)(data)
    if file_format == TIFF:
        _require_tiff_work(data, limits)
    with _open(prepared, file_format, limits) as image:
        require_size(*image.size, limits)
        drawn = image.tile[0].extents if file_format == GIF and image.tile else None
        try:
            image.seek(0)
            image.info.pop("xmp", None)  # Pillow would turn a TIFF as its XMP says
            image.load()
            if file_format == PNG and _ends_in_black(image):
                _require_rows(prepared.data)
            pixels = to_pixels(image, _interpretation(image, file_format, prepared.how))
        except (MemoryError, ImageRefused):
            raise
        except Exception as error:  # damaged bodies make decoders raise nearly anything
            line = one_line(error)
            if prepared.kind and line.startswith("unknown raw mode"):
                raise unsupported(f"the data is {prepared.kind}") from None
            raise damaged(file_format, line) from None
        exif = image.info.get("exif")
    if drawn is not None:
        _clear_outside(pixels, drawn)
    blocks = (
        (*prepared.exif, exif.removeprefix(_EXIF)) if isinstance(exif, bytes) else prepared.exif
    )
    return upright(pixels, orientation_of(blocks))


def _open(prepared: _Prepared, file_format: str, limits: ImageLimits) -> ImageFile.ImageFile:
    """The opened file, of which only the header has been read; raises `ImageRefused`."""
    try:
        return Image.open(io.BytesIO(prepared.data), formats=(file_format,))
    except MemoryError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise too_many_pixels(limits) from None
    except UnidentifiedImageError:
        if prepared.kind:
            raise unsupported(f"the data is {prepared.kind}") from None
        raise ImageRefused(
            422, f"the header of the {file_format} image is damaged or truncated"
        ) from None
    except Exception as error:  # parsers of damaged headers raise nearly anything
        line = one_line(error)
        if line.startswith("Unsupported"):
            raise unsupported(f"the data is a {file_format} image: {line}") from None
        raise ImageRefused(
            422, f"the header of the {file_format} image is damaged: {line}"
        ) from None


def _interpretation(image: Image.Image, file_format: str, how: Interpretation) -> Interpretation:
    """What a loaded picture's samples mean, with what Pillow found in the file."""
    profile = how.profile or image.info.get("icc_profile") or b""
    white = _DEEP_WHITE if file_format == PPM and image.mode == "I" else None
    # Programs that have no transparency leave the fourth byte of a bitmap at zero.
    unused = file_format == BMP and has_alpha(image) and image.getchannel("A").getbbox() is None
    return Interpretation(
        profile=bytes(profile),
        white=white,
        zero_is_white=how.zero_is_white and is_deep(image.mode),
        transparent=how.transparent,
        ignore_alpha=unused,
    )


def _prepare_png(data: bytes) -> _Prepared:
    picture = png_chunks.read_picture(data)
    if picture.unsupported:
        raise unsupported(f"the data is {picture.unsupported}")
    how = Interpretation(profile=picture.icc_profile, transparent=picture.transparent)
    return _Prepared(picture.data, how, picture.exif)


def _prepare_webp(data: bytes) -> _Prepared:
    picture, exif = webp_chunks.read_picture(data)
    return _Prepared(picture, exif=(exif.removeprefix(_EXIF),))


def _prepare_avif(data: bytes) -> _Prepared:
    # The decoder refuses a file for damaged EXIF data. Its orientation is no part of them: the
    # file's own properties turn an AVIF (MIAF, 7.3.6.7).
    return _Prepared(_EXIF_ITEM.sub(rb"\1skip", data))


def _prepare_bmp(data: bytes) -> _Prepared:
    # Rows are filled up to four bytes. What fills up the last one is no pixel, and may be missing.
    if len(data) < _BMP_HEADER:
        return _Prepared(data)
    offset, header = struct.unpack_from("<II", data, 10)
    layout = "<HH2xH" if header == _CORE_HEADER else "<ii2xH"
    width, height, bits = struct.unpack_from(layout, data, 18)
    row = (width * bits + 7) // 8
    filling = -row % 4
    missing = offset + (row + filling) * abs(height) - len(data)
    return _Prepared(data + bytes(missing) if 0 < missing <= filling else data)


def _prepare_ppm(data: bytes) -> _Prepared:
    if data[:2] not in _PLAIN_PPM:
        return _Prepared(data)
    # Pillow needs minutes for some megabytes of comments.
    if data.count(b"#") > _MAX_COMMENTS:
        raise damaged(PPM, "it has too many comments")
    return _Prepared(_COMMENT.sub(b" ", data))


def _ends_in_black(image: Image.Image) -> bool:
    width, height = image.size
    return image.crop((0, height - 1, width, height)).getbbox(alpha_only=False) is None


def _require_rows(data: bytes) -> None:
    if not png_chunks.has_all_rows(data):
        raise damaged(PNG, "rows are missing at its end")


def _prepare_tiff(data: bytes) -> _Prepared:
    picture = _read_tiff(data)
    if picture.unsupported:
        raise unsupported(f"the data is {picture.unsupported}")
    if not picture.has_all_parts:
        raise damaged(TIFF, "parts of its pixels are missing")
    how = Interpretation(zero_is_white=picture.zero_is_white)
    # A TIFF file begins as a block of EXIF data does, and holds its orientation in the same place.
    return _Prepared(tiff_tags.without_orientation(data), how, (data,), picture.description)


def _read_tiff(data: bytes) -> tiff_tags.TiffPicture:
    picture = tiff_tags.read_tiff(data)
    if picture is None:
        raise ImageRefused(422, "the header of the TIFF image is damaged or truncated")
    return picture


def _require_tiff_work(data: bytes, limits: ImageLimits) -> None:
    picture = _read_tiff(data)
    require_size(*picture.size, limits)
    require_size(*picture.tile_size, limits)
    description = "the TIFF image has JPEG parts of too many scans"
    require_work(picture.jpeg_work(data), description, limits)


def _clear_outside(pixels: torch.Tensor, drawn: tuple[int, int, int, int]) -> None:
    """Make white what the first frame of an animation does not cover."""
    left, top, right, bottom = drawn
    pixels[:, :top] = 255
    pixels[:, bottom:] = 255
    pixels[:, :, :left] = 255
    pixels[:, :, right:] = 255


_PREPARE: dict[str, Callable[[bytes], _Prepared]] = {
    AVIF: _prepare_avif,
    BMP: _prepare_bmp,
    PNG: _prepare_png,
    PPM: _prepare_ppm,
    TIFF: _prepare_tiff,
    WEBP: _prepare_webp,
}
