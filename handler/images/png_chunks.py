"""The chunks of a PNG file (PNG specification, third edition) that decide about its pixels.

Texts, times and the frames of an animation are left out before the decoder sees the file: a wrong
checksum there is no reason to refuse the picture, and a million of them cost nothing. Profile and
orientation are read here.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from handler.images.refusal import ImageRefused, damaged

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXELS = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
_ONCE = frozenset({b"tRNS", b"iCCP", b"eXIf"})
_TEXTS = frozenset({b"tEXt", b"zTXt"})
# Names under which ImageMagick keeps EXIF data in texts.
_RAW_PROFILES = (b"Raw profile type exif\0", b"Raw profile type APP1\0")
_MAX_EXIF = 128 * 1024  # bytes of text, two for each of EXIF data
_GREY, _RGB = 0, 2
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
# First column and row, and steps between columns and rows, of the passes of an interlaced picture.
_PASSES = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)),
    (0, 1, 1, 2),
)
_DEFLATE = b"\0"  # the only packing of profiles and texts
_PIECE = 1 << 20  # bytes unpacked at a time
_MAX_PROFILE = 4 * 1024 * 1024  # bytes unpacked; more is no profile
_MAX_NAME = 80  # bytes of a profile's name, and what ends it


@dataclass(frozen=True)
class PngPicture:
    """A PNG file reduced to its picture.

    Attributes:
        data: The file with the chunks that its pixels need.
        transparent: The transparent colour of a grey or a 16-bit picture as Pillow decodes its
            samples, or None.
        icc_profile: Embedded colour profile; empty without one.
        exif: Blocks of EXIF data.
        unsupported: Kind of PNG that this is, if decoders cannot read it; else an empty string.
    """

    data: bytes
    transparent: tuple[int, ...] | None = None
    icc_profile: bytes = b""
    exif: tuple[bytes, ...] = ()
    unsupported: str = ""


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height that a PNG file states.

    Args:
        data: A file that starts with `SIGNATURE`.

    Returns:
        Width and height in pixels.

    Raises:
        ImageRefused: The file does not begin with its header.
    """
    if data[12:16] != b"IHDR" or len(data) < 24:
        raise ImageRefused(422, "the header of the PNG image is damaged or truncated")
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def read_picture(data: bytes) -> PngPicture:
    """Reduce a PNG file to the chunks that its picture needs.

    Args:
        data: A file that starts with `SIGNATURE`.

    Returns:
        The picture; what else is damaged in it is left for the decoder to find.

    Raises:
        ImageRefused: Pixels are damaged.
    """
    parts, at = [SIGNATURE], len(SIGNATURE)
    depth, kind = 8, -1
    once: dict[bytes, bytes] = {}
    raw = b""
    transparent: tuple[int, ...] | None = None
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if name == b"CgBI":
            return PngPicture(data, unsupported="a PNG file in the form of iOS programs (CgBI)")
        if name in _PIXELS:
            parts.append(data[at:end])
            if name == b"IDAT" and end <= len(data) and not _is_intact(parts[-1]):
                raise damaged("PNG", "wrong checksum of its pixels")
        elif name in _ONCE and name not in once:
            chunk = data[at:end]
            body = once[name] = chunk[8:-4] if _is_intact(chunk) else b""
            if name == b"tRNS":
                transparent = _colour(body, depth, kind)
                if transparent is None:  # the decoder's own to understand, or to refuse
                    parts.append(chunk)
        elif name in _TEXTS and not raw and data.startswith(_RAW_PROFILES, at + 8, end):
            raw = _raw_profile(data[at + 8 : end - 4], packed=name == b"zTXt")
        if name == b"IHDR" and at + 17 < len(data):
            depth, kind = data[at + 16], data[at + 17]
        if name == b"IEND":
            break
        at = end
    else:
        parts.append(data[at:])
    exif = tuple(block for block in (once.get(b"eXIf"), raw) if block)
    profile = _unpack(once.get(b"iCCP", b""), _MAX_PROFILE)
    return PngPicture(b"".join(parts), transparent, profile, exif)


def has_all_rows(data: bytes) -> bool:
    """Whether a PNG file holds as many bytes of pixels as its size needs.

    Decoders leave rows black that the packed data ends before.

    Args:
        data: A file that `read_picture` made.
    """
    width, height, depth, kind, interlaced = struct.unpack_from(">IIBB2xB", data, 16)
    needed = _row_bytes(width, height, depth * _SAMPLES.get(kind, 4), interlaced=interlaced > 0)
    unpacker, at = zlib.decompressobj(), len(SIGNATURE)
    while at + 8 <= len(data) and needed > 0:
        length, name = struct.unpack_from(">I4s", data, at)
        packed = data[at + 8 : at + 8 + length] if name == b"IDAT" else b""
        while packed and needed > 0:
            needed -= len(unpacker.decompress(packed, _PIECE))
            packed = unpacker.unconsumed_tail
        at += 12 + length
    return needed <= 0


def _row_bytes(width: int, height: int, bits: int, *, interlaced: bool) -> int:
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    total = 0
    for left, top, across, down in passes:
        columns, rows = -((left - width) // across), -((top - height) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * bits + 7) // 8)
    return total


def _colour(body: bytes, depth: int, kind: int) -> tuple[int, ...] | None:
    """The transparent colour where decoders compare it with samples of another depth."""
    if kind == _GREY and len(body) >= 2:
        (value,) = struct.unpack_from(">H", body)
        return (value if depth == 16 else value * 255 // ((1 << depth) - 1),)
    if kind == _RGB and depth == 16 and len(body) >= 6:
        return tuple(value >> 8 for value in struct.unpack_from(">HHH", body))
    return None


def _raw_profile(body: bytes, *, packed: bool) -> bytes:
    """EXIF data of a text: a name, and lines of its kind, its length and hexadecimal digits."""
    text = _unpack(body, _MAX_EXIF) if packed else body[body.find(b"\0") + 1 :][:_MAX_EXIF]
    digits = b"".join(text.split()[2:])
    try:
        return bytes.fromhex(digits.decode("latin-1")).removeprefix(b"Exif\0\0")
    except ValueError:
        return b""


def _unpack(body: bytes, most: int) -> bytes:
    """What a chunk holds behind its name and its method, unpacked."""
    name_end = body.find(b"\0", 0, _MAX_NAME)
    if name_end < 0 or body[name_end + 1 : name_end + 2] != _DEFLATE:
        return b""
    try:
        return zlib.decompressobj().decompress(body[name_end + 2 :], most)
    except zlib.error:
        return b""


def _is_intact(chunk: bytes) -> bool:
    return len(chunk) >= 12 and zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
