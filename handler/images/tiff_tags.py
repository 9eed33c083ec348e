"""What the first directory of a TIFF file says of its picture (TIFF 6.0), before it is decoded."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from handler.images.jpeg_segments import read_structure
from handler.images.orientation import TAG as _ORIENTATION
from handler.images.tiff_directory import TiffDirectory, read_directory

_SUBFILE_TYPE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_STRIP_OFFSETS, _SAMPLES, _STRIP_ROWS, _STRIP_SIZES, _PLANAR = 273, 277, 278, 279, 284
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_SIZES, _FORMAT = 322, 323, 324, 325, 339
_EXTRA, _OLD_JPEG, _DNG_VERSION = 338, 513, 50706
_WANTED = frozenset(
    {
        *(_SUBFILE_TYPE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _STRIP_OFFSETS),
        *(_SAMPLES, _STRIP_SIZES, _PLANAR, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_SIZES),
        *(_FORMAT, _EXTRA, _OLD_JPEG, _DNG_VERSION, _STRIP_ROWS),
    }
)
_REDUCED = 1  # a bit of the subfile type
_UNCOMPRESSED, _OLD_STYLE, _JPEG_COMPRESSIONS = 1, 6, frozenset({6, 7, 34892})
_COLOUR_FILTER, _LINEAR_RAW = 32803, 34892
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_FORMATS = {_UNSIGNED: "unsigned integers", _SIGNED: "signed integers", _FLOAT: "floats"}
_SHORT = 3
_GREY_ALPHA = 2  # samples


@dataclass(frozen=True)
class TiffPicture:
    """The picture of a TIFF file's first directory.

    Attributes:
        directory: Its tags.
    """

    directory: TiffDirectory

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows as they are stored; zeros where they are not given."""
        return self.directory.first(_WIDTH, 0), self.directory.first(_HEIGHT, 0)

    @property
    def tile_size(self) -> tuple[int, int]:
        """Columns and rows that are decoded at once; ones in a file without tiles."""
        return self.directory.first(_TILE_WIDTH, 1), self.directory.first(_TILE_HEIGHT, 1)

    @property
    def zero_is_white(self) -> bool:
        """Whether small values are bright."""
        return self.directory.first(_PHOTOMETRIC, 1) == 0

    @property
    def unsupported(self) -> str:
        """The kind of TIFF that this is, if decoders get it wrong; else an empty string."""
        first = self.directory.first
        raw = first(_PHOTOMETRIC, 1) in (_COLOUR_FILTER, _LINEAR_RAW)
        if raw or _DNG_VERSION in self.directory.values:
            return "a camera's raw file"
        if first(_SUBFILE_TYPE, 0) & _REDUCED:
            return "a TIFF file that begins with a thumbnail, as cameras' raw files do"
        # Pillow opens these, and takes bytes in the wrong order or signs for brightness.
        samples, deep, kind = first(_SAMPLES, 1), first(_BITS, 1) > 8, first(_FORMAT, _UNSIGNED)
        packed = first(_COMPRESSION, 1) != _UNCOMPRESSED
        swapped = self.directory.order == ">" and packed
        in_planes = samples > 1 and first(_PLANAR, 1) == 2
        wrong = (
            kind == _SIGNED and not deep,
            kind != _UNSIGNED and (samples > 1 or swapped),
            in_planes and deep and not packed,
            in_planes and samples == _GREY_ALPHA and first(_EXTRA, 0) != 0,
        )
        return self.description if any(wrong) else ""

    @property
    def description(self) -> str:
        """The kind of TIFF in words, for files that cannot be opened."""
        first = self.directory.first
        samples, compression = first(_SAMPLES, 1), first(_COMPRESSION, _UNCOMPRESSED)
        kind = _FORMATS.get(first(_FORMAT, _UNSIGNED), "values of an unknown format")
        order = "big-endian " if self.directory.order == ">" else ""
        planes = " in planes" if samples > 1 and first(_PLANAR, 1) == 2 else ""
        packed = f", compression {compression}" if compression != _UNCOMPRESSED else ""
        colours = f", photometric interpretation {first(_PHOTOMETRIC, 1)}"
        bits = first(_BITS, 1)
        return f"a {order}TIFF image of {samples} x {bits}-bit {kind}{planes}{packed}{colours}"

    @property
    def has_all_parts(self) -> bool:
        """Whether there are as many strips or tiles as the size needs."""
        first, values = self.directory.first, self.directory.values
        if first(_COMPRESSION, _UNCOMPRESSED) == _OLD_STYLE:  # it may have none
            return True
        width, height = self.size
        across, down = (max(side, 1) for side in self.tile_size)
        if _TILE_OFFSETS in values:
            needed = -(-width // across) * -(-height // down)
        else:
            needed = -(-height // max(first(_STRIP_ROWS, height), 1))
        planes = first(_SAMPLES, 1) if first(_PLANAR, 1) == 2 else 1
        return len(values.get(_TILE_OFFSETS) or values.get(_STRIP_OFFSETS, ())) >= needed * planes

    def jpeg_work(self, data: bytes) -> int:
        """How many pixels the scans of the JPEG streams inside the file go over.

        Args:
            data: The file.

        Returns:
            The number of pixels, each counted once for every scan; 0 for other compressions.
        """
        values = self.directory.values
        if self.directory.first(_COMPRESSION, _UNCOMPRESSED) not in _JPEG_COMPRESSIONS:
            return 0
        offsets = values.get(_TILE_OFFSETS, ()) + values.get(_STRIP_OFFSETS, ())
        sizes = values.get(_TILE_SIZES, ()) + values.get(_STRIP_SIZES, ())
        sizes += (len(data),) * (len(offsets) - len(sizes))
        parts = [*zip(offsets, sizes, strict=False), (values.get(_OLD_JPEG, (0,))[0], len(data))]
        work, walked = 0, 0
        for offset, size in parts:
            stream = data[offset : offset + size] if offset else b""
            walked += len(stream)
            if walked > 3 * len(data):  # parts that share bytes: no encoder writes them
                return 2**62
            found = read_structure(stream)
            work += found.scans * found.width * found.height
        return work


def read_tiff(data: bytes) -> TiffPicture | None:
    """Read what a TIFF file says of its picture.

    Args:
        data: Complete TIFF file.

    Returns:
        The picture, or None if the directory is damaged.
    """
    directory = read_directory(data, _WANTED)
    return TiffPicture(directory) if directory is not None and directory.is_whole else None


def without_orientation(data: bytes) -> bytes:
    """The same TIFF file with its orientation set to upright.

    Args:
        data: Complete TIFF file.

    Returns:
        The file itself if it gives no orientation.
    """
    directory = read_directory(data, (_ORIENTATION,))
    if directory is None or _ORIENTATION not in directory.places:
        return data
    changed, is_big = bytearray(data), data[2:4] in (b"+\0", b"\0+")
    layout = directory.order + ("HHQHHI" if is_big else "HHIHH")
    entry = (_ORIENTATION, _SHORT, 1, 1, 0, 0) if is_big else (_ORIENTATION, _SHORT, 1, 1, 0)
    for place in directory.places[_ORIENTATION]:
        struct.pack_into(layout, changed, place, *entry)
    return bytes(changed)
