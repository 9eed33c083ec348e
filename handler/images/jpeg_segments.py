"""The structure of a JPEG file (ITU-T T.81, annex B), read without decoding any pixel.

The walk follows lengths and markers exactly as decoders do, so that bytes inside a segment or
behind the end of the picture (the video of a motion photo, a second picture, a maker's trailer) are
never taken for parts of the picture.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_EOI, _SOS, _DHP = 0xD9, 0xDA, 0xDE
_JPEG_LS = 0xF7
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_LOSSLESS = frozenset({0xC3, 0xC7, 0xCB, 0xCF})
_HIERARCHICAL = frozenset({0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF, _DHP})
_ARITHMETIC = frozenset(range(0xC9, 0xD0)) - {0xCC}
_NO_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})
# Markers that decoders know: anything else behind a scan is no part of the picture.
_KNOWN = frozenset(range(0xC0, 0xD0)) | frozenset(range(0xDA, 0xF0)) | {_JPEG_LS, 0xFE}
# Inside a scan FF is followed by 00 (a byte FF), by D0 to D7 (restarts) or by FF (padding).
_NEXT_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_EXIF, _ICC = b"Exif\0", b"ICC_PROFILE\0"
# 20 MiB in full segments are 320, and encoders write some ten for each scan.
_MAX_SEGMENTS = 20_000
_MAX_EXIF = 16
_APP0, _APP1, _APP2, _APP14, _APP15, _COM = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF, 0xFE


@dataclass
class JpegStructure:
    """What the segments of a JPEG file say.

    Attributes:
        width: Columns of pixels; 0 without a frame header.
        height: Rows of pixels; 0 without a frame header or where a DNL segment defines them.
        components: Number of colour components; 0 without a frame header.
        kind: Marker of the frame header, C0 to CF, or F7 of JPEG-LS.
        precision: Bits of a sample.
        scans: Number of scans.
        end: Offset behind the last byte of the picture.
        has_end_marker: Whether the picture is closed by its end marker.
        all_scanned: Whether the scans bring every bit of every coefficient.
        started: Whether the scans bring something of every component.
        exif: Contents of the EXIF segments, from their TIFF headers on.
        icc_profile: The embedded colour profile; empty without one.
        problem: Fault of the structure that no decoder accepts; empty if there is none.
    """

    width: int = 0
    height: int = 0
    components: int = 0
    kind: int = 0
    precision: int = 8
    scans: int = 0
    end: int = 0
    has_end_marker: bool = False
    all_scanned: bool = False
    started: bool = False
    exif: list[bytes] = field(default_factory=list)
    icc_profile: bytes = b""
    problem: str = ""

    @property
    def is_arithmetic(self) -> bool:
        """Whether its entropy coding is arithmetic."""
        return self.kind in _ARITHMETIC

    @property
    def unsupported(self) -> str:
        """The kind of JPEG that this is, if it is one that is not read; else an empty string."""
        if not self.kind:
            return ""
        kinds = (
            (self.kind == _JPEG_LS, "a JPEG-LS image"),
            (self.kind in _HIERARCHICAL, "a hierarchical JPEG image"),
            (self.kind in _LOSSLESS, "a lossless JPEG image"),
            (self.precision != 8, f"a JPEG image of {self.precision} bits a sample"),
            (self.height == 0, "a JPEG image that tells its height behind its pixels (DNL)"),
            (self.components not in (1, 3, 4), f"a JPEG image of {self.components} components"),
        )
        return next((words for applies, words in kinds if applies), "")


class _Coverage:
    """Which bits of which coefficients the scans have brought so far."""

    def __init__(self, identifiers: bytes, *, progressive: bool) -> None:
        self._progressive = progressive
        self._missing = {i: [True] * 64 for i in identifiers}
        self._started: set[int] = set()

    def add(self, header: bytes) -> bool:
        """Count a scan; False if its header is none of this picture."""
        count = header[0] if header else 0
        if not 1 <= count <= 4 or len(header) != 4 + 2 * count:
            return False
        identifiers = header[1 : 1 + 2 * count : 2]
        if any(i not in self._missing for i in identifiers):
            return False
        first, last, approximation = header[-3], header[-2], header[-1] & 15
        if not self._progressive:
            first, last, approximation = 0, 63, 0
        if first > last or last > 63:
            return False
        if first == 0:
            self._started.update(identifiers)
        if approximation == 0:
            for i in identifiers:
                self._missing[i][first : last + 1] = [False] * (last - first + 1)
        return True

    @property
    def complete(self) -> bool:
        return not any(any(bits) for bits in self._missing.values())

    @property
    def started(self) -> bool:
        return self._started == set(self._missing)


def read_structure(data: bytes, *, header_only: bool = False) -> JpegStructure:
    """Walk the segments of a JPEG file to the end of its picture.

    Args:
        data: A file that starts with a JPEG start marker.
        header_only: Whether to stop at the frame header.

    Returns:
        What the segments say; of a damaged file what they say until the damage.
    """
    found = JpegStructure(end=len(data))
    profile: dict[int, bytes] = {}
    coverage: _Coverage | None = None
    at, count = 2, 0
    while (match := _NEXT_MARKER.search(data, at)) is not None:
        start, marker = match.start(), data[match.start() + 1]
        at, count = match.end(), count + 1
        if count > _MAX_SEGMENTS:
            found.problem, found.scans = "it has too many segments", 0
            break
        behind_pixels = found.scans > 0
        if marker == _EOI:
            found.end, found.has_end_marker = at, True
            break
        # A sequential picture ends with the scan that completes it, whatever follows.
        whole = behind_pixels and found.kind not in _PROGRESSIVE and found.all_scanned
        if whole or (behind_pixels and marker not in _KNOWN):
            found.end = start
            break
        if marker in _NO_LENGTH:
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        body = data[at + 2 : at + length]
        if length < 2 or at + length > len(data):
            found.end = start if behind_pixels else len(data)
            break
        if marker == _SOS:
            if coverage is None or not coverage.add(body):
                found.problem = "" if behind_pixels else "its first scan is not of its frame"
                found.end = start
                break
            found.scans += 1
            found.all_scanned, found.started = coverage.complete, coverage.started
        elif marker in _FRAMES or marker in (_JPEG_LS, _DHP):
            if found.kind or len(body) < 6:
                found.problem, found.end = "its frame header is damaged", start
                break
            coverage = _read_frame(found, marker, body)
            if found.unsupported or header_only:
                break
        else:
            _read_metadata(found, profile, marker, body)
        at += length
    found.icc_profile = b"".join(part for _, part in sorted(profile.items()))
    return found


def _read_frame(found: JpegStructure, marker: int, body: bytes) -> _Coverage:
    found.kind, found.precision = marker, body[0]
    found.height, found.width = (int.from_bytes(body[i : i + 2], "big") for i in (1, 3))
    found.components = body[5]
    return _Coverage(body[6 : 6 + 3 * body[5] : 3], progressive=marker in _PROGRESSIVE)


def _read_metadata(
    found: JpegStructure, profile: dict[int, bytes], marker: int, body: bytes
) -> None:
    if marker == _APP1 and body.startswith(_EXIF) and len(found.exif) < _MAX_EXIF:
        found.exif.append(body[6:])
    elif marker == _APP2 and body.startswith(_ICC) and len(body) > 14:
        profile[body[12]] = body[14:]


def without_metadata(data: bytes, end: int) -> bytearray:
    """The picture alone: no segment of a maker, no comment, nothing behind its end.

    What remains is what decides about colours: the JFIF and the Adobe segment. Decoders can then
    disagree about nothing else, and none reads what it does not need.

    Args:
        data: A JPEG file that `read_structure` could walk.
        end: Offset behind the picture.

    Returns:
        A JPEG file with the same pixels, without an end marker if there was none.
    """
    parts, at, kept = [data[:2]], 2, 2
    while (match := _NEXT_MARKER.search(data, at, end)) is not None:
        start, marker = match.start(), data[match.start() + 1]
        if marker in (_SOS, _EOI):
            break
        at = match.end()
        if marker in _NO_LENGTH:
            continue
        at += int.from_bytes(data[at : at + 2], "big")
        dropped = _APP0 < marker <= _APP15 and marker != _APP14
        if dropped or marker == _COM:
            parts.append(data[kept:start])
            kept = at
    parts.append(data[kept:end])
    return bytearray().join(parts)
