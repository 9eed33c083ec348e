"""The chunks of a WebP file (RIFF, RFC 9649) that its first picture needs.

The decoder refuses a file that is shorter than its header says, even if only metadata or the byte
that fills up the last chunk is missing, and it goes through all frames of an animation.
"""

from __future__ import annotations

import struct

_FIRST = 12  # offset of the first chunk
_HEADERS = frozenset({b"VP8X", b"ICCP", b"ANIM", b"ALPH"})
_PICTURES = frozenset({b"VP8 ", b"VP8L", b"ANMF"})
_EXIF = b"EXIF"


def read_picture(data: bytes) -> tuple[bytes, bytes]:
    """Reduce a WebP file to the chunks of its first picture.

    Args:
        data: A file that starts with ``RIFF``, a size, and ``WEBP``.

    Returns:
        A WebP file with the same first picture and profile, and the block of EXIF data, as far as
        it is there. If chunks of the picture are not whole, the file itself, for the decoder to
        refuse.
    """
    chunks: list[bytes] = []
    at, has_picture, exif = _FIRST, False, b""
    while at + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, at)
        end = at + 8 + length
        if name == _EXIF:
            exif = exif or data[at + 8 : end]
        elif not has_picture and end <= len(data) and (name in _HEADERS or name in _PICTURES):
            chunks.append(data[at:end] + b"\0" * (length % 2))
            has_picture = name in _PICTURES
        at = end + length % 2
    if not has_picture:
        return data, exif
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body, exif
