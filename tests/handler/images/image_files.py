"""Small image files made from their specifications, for tests that need more than Pillow writes."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, features

from handler.images import ImageRefused, decode
from handler.values.limits import ImageLimits

WIDTH, HEIGHT = 48, 32
ORIENTATION = 0x0112
AVIF = features.check("avif")
# XYZ of the primaries, adapted to D50, as profiles hold them.
SRGB = np.array(
    [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.7141]]
)
DISPLAY_P3 = np.array(
    [[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]]
)


def picture(seed: int = 0) -> Image.Image:
    """A smooth colour picture, 48x32."""
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)


def noise(width: int = 128, height: int = 128) -> Image.Image:
    """A picture that no format compresses well, so that half of its file misses half of it."""
    values = np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def save(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"))


def decoded(data: bytes, limits: ImageLimits | None = None) -> np.ndarray:
    """Decode, HxWx3, having checked what every answer promises."""
    tensor = decode(data, limits)
    assert tensor.dtype == torch.uint8
    assert tensor.ndim == 3
    assert tensor.shape[0] == 3
    return tensor.permute(1, 2, 0).numpy()


def answer_to(data: bytes) -> torch.Tensor | ImageRefused:
    """What decoding gives, at most a million pixels."""
    try:
        return decode(data, ImageLimits(max_pixels=1_000_000))
    except ImageRefused as refusal:
        return refusal


def refusal_of(data: bytes, limits: ImageLimits | None = None) -> ImageRefused:
    with pytest.raises(ImageRefused) as caught:
        decode(data, limits)
    assert caught.value.reason
    assert "\n" not in caught.value.reason
    return caught.value


def segment(marker: int, body: bytes) -> bytes:
    """A segment of a JPEG file."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    """A JPEG file with segments right behind its start, before those of its encoder."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def progressive_with_scans(side: int, count: int) -> bytes:
    """A grey progressive JPEG whose last scan comes again and again."""
    data = save(Image.new("L", (side, side), 128), "JPEG", progressive=True, quality=5)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * count + b"\xff\xd9"


def multi_picture_segment() -> bytes:
    """The segment that makes Pillow call a JPEG file MPO."""
    views = {"save_all": True, "append_images": [Image.new("L", (8, 8))]}
    data = save(Image.new("L", (16, 16)), "MPO", **views)
    start = data.index(b"MPF\0") - 4
    (length,) = struct.unpack_from(">H", data, start + 2)
    return data[start : start + 2 + length]


def exif_block(
    orientation: int, order: str = "<", layout: str = "H", entries_before: int = 0
) -> bytes:
    """EXIF data from its TIFF header on, with an orientation of any integer type."""
    kinds = {"B": 1, "H": 3, "I": 4, "b": 6, "h": 8, "i": 9}
    value = struct.pack(order + layout, orientation).ljust(4, b"\0")
    other = struct.pack(order + "HHI", 0x0100, 4, 1) + bytes(4)
    entry = struct.pack(order + "HHI", ORIENTATION, kinds[layout], 1) + value
    count = struct.pack(order + "H", entries_before + 1)
    start = b"II*\0" if order == "<" else b"MM\0*"
    return start + struct.pack(order + "I", 8) + count + other * entries_before + entry + bytes(4)


def png_chunk(name: bytes, body: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + body))
    return struct.pack(">I", len(body)) + name + body + checksum


def png(
    width: int, height: int, depth: int, colour_type: int, rows: bytes, *chunks: bytes
) -> bytes:
    """A PNG file from unfiltered rows, each led by its filter byte, with chunks before them."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    body = png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + b"".join(chunks) + body


def tiff(tags: dict[int, tuple[int, ...]], parts: list[bytes], order: str = "<") -> bytes:
    """A TIFF file with LONG tags, whose strips are ``parts``; tags given replace those computed."""
    offsets = [8 + sum(map(len, parts[:i])) for i in range(len(parts))]
    tags = {273: tuple(offsets), 279: tuple(map(len, parts))} | tags
    data = b"".join(parts)
    entries, beyond = b"", b""
    behind = 8 + len(data) + 2 + 12 * len(tags) + 4
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}I", *values)
        if len(packed) > 4:
            place = struct.pack(order + "I", behind + len(beyond))
            beyond, packed = beyond + packed, place
        entries += struct.pack(order + "HHI", tag, 4, len(values)) + packed
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(data))
    count = struct.pack(order + "H", len(tags))
    return start + data + count + entries + bytes(4) + beyond


def icc_profile(
    space: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr", connection: bytes = b"XYZ "
) -> bytes:
    """A profile (ICC.1:2001) from the contents of its tags, by default of a display."""
    table, contents = struct.pack(">I", len(tags)), b""
    behind = 128 + 4 + 12 * len(tags)
    for name, body in tags.items():
        table += name + struct.pack(">II", behind + len(contents), len(body))
        contents += body + bytes(-len(body) % 4)
    size = behind + len(contents)
    header = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x02400000, kind, space, connection)
    header += struct.pack(">6H4s28x3i", 2020, 1, 1, 0, 0, 0, b"acsp", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + table + contents


def gamma_curve(gamma: float) -> bytes:
    return b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256)) + bytes(2)


def rgb_profile(primaries: np.ndarray, gamma: float) -> bytes:
    """A profile of three primaries (columns of XYZ) and one power of brightness."""
    tags = {b"wtpt": b"XYZ " + struct.pack(">4x3i", 63190, 65536, 54061)}
    for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries.T, strict=True):
        tags[name] = b"XYZ " + struct.pack(">4x3i", *(round(float(v) * 65536) for v in column))
    tags |= {name: gamma_curve(gamma) for name in (b"rTRC", b"gTRC", b"bTRC")}
    return icc_profile(b"RGB ", tags)


def grey_profile(gamma: float) -> bytes:
    tags = {b"wtpt": b"XYZ " + struct.pack(">4x3i", 63190, 65536, 54061)}
    return icc_profile(b"GRAY", tags | {b"kTRC": gamma_curve(gamma)})


def black_only_profile() -> bytes:
    """A printer's profile by which paper shows its black ink alone, as evenly falling lightness."""
    ramp = bytes(range(256))
    identity = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + ramp * 4
    table += bytes([255, 128, 128, 0, 128, 128]) * 8 + ramp * 3
    white = b"XYZ " + struct.pack(">4x3i", 63190, 65536, 54061)
    return icc_profile(b"CMYK", {b"wtpt": white, b"A2B0": table}, b"prtr", b"Lab ")


def in_srgb(values: np.ndarray, primaries: np.ndarray, gamma: float) -> np.ndarray:
    """What pixels of a profile are in sRGB (IEC 61966-2-1), by its formulas."""
    light = (values / 255.0) ** gamma @ (np.linalg.inv(SRGB) @ primaries).T
    light = np.clip(light, 0.0, 1.0)
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(curve * 255.0)
