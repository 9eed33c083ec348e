"""The first directory of TIFF data (TIFF 6.0, section 2; BigTIFF): TIFF files and EXIF blocks."""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass, field

# Layouts of the integer types by number: BYTE, SHORT, LONG, LONG8, IFD and their signed siblings.
_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q"}
_MAX_ENTRIES = 4096
_MAX_VALUES = 1_000_000  # of one tag: strips of one row each of the tallest picture are fewer


@dataclass
class TiffDirectory:
    """Integer tags of a directory.

    Attributes:
        order: ``<`` for little-endian data, ``>`` for big-endian data.
        values: Values by tag number; of a tag that is there twice those of the first.
        places: Offsets of the entries of each wanted tag.
        is_whole: Whether all entries are inside the data, no wanted tag is there twice, and the
            values of all wanted tags could be read.
    """

    order: str
    values: dict[int, tuple[int, ...]] = field(default_factory=dict)
    places: dict[int, list[int]] = field(default_factory=dict)
    is_whole: bool = True

    def first(self, tag: int, default: int) -> int:
        """The first value of a tag.

        Args:
            tag: Number of the tag.
            default: Value of a tag that is not there.
        """
        return self.values.get(tag, (default,))[0]


def read_directory(data: bytes, wanted: Collection[int]) -> TiffDirectory | None:
    """Read the wanted integer tags of the first directory.

    Args:
        data: TIFF data from its header on.
        wanted: Numbers of the tags to read.

    Returns:
        The tags, as far as the data goes, or None if it does not begin as TIFF does.
    """
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 8:
        return None
    (version,) = struct.unpack_from(order + "H", data, 2)
    if version not in (42, 43):
        return None
    offset, count, inline = ("Q", "Q", 8) if version == 43 else ("I", "H", 4)
    found = TiffDirectory(order)
    try:
        (at,) = struct.unpack_from(order + offset, data, 8 if version == 43 else 4)
        (entries,) = struct.unpack_from(order + count, data, at)
        at += struct.calcsize(order + count)
        found.is_whole = entries <= _MAX_ENTRIES
        size = 4 + 2 * inline
        for place in range(at, at + size * min(entries, _MAX_ENTRIES), size):
            tag, kind, number = struct.unpack_from(order + "HH" + offset, data, place)
            if tag not in wanted:
                continue
            found.places.setdefault(tag, []).append(place)
            values = _read_values(data, order + offset, place + 4 + inline, kind, number)
            if tag in found.values or values is None:
                found.is_whole = False
            else:
                found.values[tag] = values
    except (struct.error, OverflowError):
        found.is_whole = False
    return found


def _read_values(
    data: bytes, pointer: str, at: int, kind: int, number: int
) -> tuple[int, ...] | None:
    layout = _INTEGERS.get(kind)
    if layout is None or not 0 < number <= _MAX_VALUES:
        return None
    if number * struct.calcsize("<" + layout) > struct.calcsize(pointer):
        (at,) = struct.unpack_from(pointer, data, at)
    try:
        return struct.unpack_from(f"{pointer[0]}{number}{layout}", data, at)
    except (struct.error, OverflowError):
        return None
