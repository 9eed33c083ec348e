"""JPEG files -> pixels. Every JPEG comes this way, whatever else its segments call it.

Files of one and three components take torchvision's decoder, inks Pillow's. Both get the picture
alone, without the segments of makers (`jpeg_segments.without_metadata`), so that orientation,
colour profile, stereo views and bytes behind the picture are decided here, once.
"""

from __future__ import annotations

import hashlib
import io

import torch
from PIL import Image

from handler.images.bands import Interpretation, bands_of, convert_rgb, to_pixels
from handler.images.colour import changes_colours
from handler.images.jpeg_segments import JpegStructure, read_structure, without_metadata
from handler.images.orientation import orientation_of, upright
from handler.images.refusal import ImageRefused, damaged, one_line, unsupported
from handler.images.size import require_size, require_work
from handler.jpeg_decoder import decode_rgb_jpeg
from handler.values.limits import ImageLimits

_END = b"\xff\xd9"
# How a scan is made to go on where it ended. Decoders go on with zeros by themselves.
_FILLINGS = (b"\xff\x00" * 64, b"\x5a\xc3" * 64)
_GREY = (127, 128)  # what decoders leave where data is missing, in light and in ink
_PLAIN_COMPONENTS = (1, 3)


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height in pixels that a JPEG file states; zeros where it does not."""
    found = read_structure(data, header_only=True)
    return found.width, found.height


def decode(data: bytes, limits: ImageLimits) -> torch.Tensor:
    """Decode a JPEG file.

    Args:
        data: Complete JPEG file.
        limits: Limits on its pixels and on the scans over them.

    Returns:
        uint8 tensor of shape 3xHxW: RGB, upright, in sRGB.

    Raises:
        ImageRefused: The file is too large, not all of its pixels are there, or its kind of JPEG
            is not read.
    """
    found = read_structure(data)
    if found.unsupported:
        raise unsupported(f"the data is {found.unsupported}")
    if not found.scans:
        detail = found.problem or "it ends before its pixels begin"
        raise ImageRefused(422, f"the header of the JPEG image is damaged or truncated: {detail}")
    require_size(found.width, found.height, limits)
    count = found.width * found.height
    description = f"the JPEG image has {found.scans} scans of {count} pixels"
    require_work(found.scans * count, description, limits)
    if not found.started or not (found.has_end_marker or found.all_scanned):
        raise damaged("JPEG", "scans are missing at its end")
    stream = without_metadata(data, found.end)
    try:
        picture = _decode_whole(stream, found)
    except (MemoryError, ImageRefused):
        raise
    except Exception as error:
        if "alloc" in str(error):  # torch reports a lack of memory as a RuntimeError
            raise MemoryError(one_line(error)) from None
        raise damaged("JPEG", one_line(error)) from None
    mode = "L" if found.components == 1 else "RGB"
    if isinstance(picture, Image.Image):
        pixels = to_pixels(picture, Interpretation(profile=found.icc_profile))
    elif changes_colours(found.icc_profile, mode):
        pixels = convert_rgb(picture, mode, found.icc_profile)
    else:
        pixels = picture
    return upright(pixels, orientation_of(found.exif))


def _decode_whole(stream: bytearray, found: JpegStructure) -> torch.Tensor | Image.Image:
    """The picture; raises `ImageRefused` if its last pixels are not in the file."""
    if not found.has_end_marker:
        _strip_end(stream)
        stream += _END
        _require_last_pixels(stream, found)
        return _decode_stream(stream, found)
    picture = _decode_stream(stream, found)
    # Without an end a picture in arithmetic coding may still be whole: nothing can be told from it.
    if _ends_in_grey(picture) and not found.is_arithmetic:
        _require_last_pixels(stream, found)
    return picture


def _decode_stream(stream: bytearray, found: JpegStructure) -> torch.Tensor | Image.Image:
    if found.components in _PLAIN_COMPONENTS:
        return decode_rgb_jpeg(torch.frombuffer(stream, dtype=torch.uint8))
    return _load(stream)


def _load(stream: bytearray) -> Image.Image:
    with Image.open(io.BytesIO(stream), formats=("JPEG",)) as image:
        image.load()
        return image


def _require_last_pixels(stream: bytearray, found: JpegStructure) -> None:
    """Refuse a picture whose file ends before its pixels do.

    Decoders fill what is missing without a word. If another filling changes the picture, pixels are
    missing. Pillow decodes here, because torchvision writes warnings to the standard error.
    """
    digest = b"" if found.is_arithmetic else _digest(_load(stream))
    if any(_digest(_load(stream[:-2] + more + _END)) != digest for more in _FILLINGS):
        raise damaged("JPEG", "its last pixels are missing")


def _digest(image: Image.Image) -> bytes:
    digest = hashlib.blake2b()
    for _, band in bands_of(image):
        digest.update(band.tobytes())
    return digest.digest()


def _strip_end(stream: bytearray) -> None:
    """Take away half an end marker, or zeros, behind a picture."""
    while stream.endswith(b"\xff"):
        stream.pop()
    kept = len(stream.rstrip(b"\0"))
    if kept < len(stream) and stream[kept - 1] == 0xFF:
        kept += 1  # the zero belongs to a byte FF of the picture
    del stream[kept:]


def _ends_in_grey(picture: torch.Tensor | Image.Image) -> bool:
    if isinstance(picture, Image.Image):
        last = picture.getpixel((picture.width - 1, picture.height - 1))
        values = last if isinstance(last, tuple) else (last,)
    else:
        values = tuple(picture[:, -1, -1].tolist())
    return all(value in _GREY for value in values)
