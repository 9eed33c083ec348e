"""Files that cost more than they look: each guard holds for every way to each decoder."""

from __future__ import annotations

import io
import resource
import struct
import zlib
from collections.abc import Callable

import pytest
import torch
from image_files import (
    multi_picture_segment,
    noise,
    picture,
    png_chunk,
    progressive_with_scans,
    refusal_of,
    save,
    segment,
    tiff,
    with_segments,
)
from PIL import Image, features

from handler.images import ImageLimits, decode, pixels_of

pytestmark = pytest.mark.threat("T8")
SIDE, SCANS = 2000, 1500


def adobe_inks_with_scans(count: int) -> bytes:
    """A progressive JPEG of four inks, which Pillow decodes, with many scans."""
    data = save(Image.new("CMYK", (SIDE, SIDE)), "JPEG", progressive=True, quality=5)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * count + b"\xff\xd9"


def tiff_around(jpeg: bytes, compression: int, *, sizes: bool = True) -> bytes:
    tags = {256: (SIDE,), 257: (SIDE,), 258: (8,), 259: (compression,), 262: (1,), 277: (1,)}
    data = tiff(tags | {278: (SIDE,)}, [jpeg])
    if sizes:
        return data
    entry = data.index(struct.pack("<HHI", 279, 4, 1))
    return data[:entry] + struct.pack("<H", 60000) + data[entry + 2 :]


def behind_other_names() -> dict[str, bytes]:
    """One JPEG of many scans in every wrapping that reaches a JPEG decoder."""
    jpeg = progressive_with_scans(SIDE, SCANS)
    exif = segment(0xE1, b"Exif\0\0II*\0")
    wrapped = {
        "jpeg": jpeg,
        "mpo": with_segments(jpeg, multi_picture_segment()),
        "behind exif": with_segments(jpeg, exif, exif),
        "without end marker": jpeg[:-2],
        "with padding": jpeg.replace(b"\xff\xda", b"\xff\xff\xff\xda"),
        "inks": adobe_inks_with_scans(SCANS),
    }
    for compression in (6, 7, 34892):
        wrapped[f"tiff {compression}"] = tiff_around(jpeg, compression)
        wrapped[f"tiff {compression} without sizes"] = tiff_around(jpeg, compression, sizes=False)
    return wrapped


@pytest.mark.parametrize("name", sorted(behind_other_names()))
def test_too_many_scans_are_refused_whatever_wraps_them(name: str) -> None:
    refusal = refusal_of(behind_other_names()[name])  # without the limit it takes a minute
    assert refusal.code == 413
    assert "scans" in refusal.reason


def test_an_honest_jpeg_in_a_tiff_is_read() -> None:
    assert decode(save(picture(), "TIFF", compression="jpeg")).shape == (3, 32, 48)


def dimension_files() -> dict[str, bytes]:
    """A picture of 400x300 in every format, which says so in its header."""
    image = Image.new("RGB", (400, 300), "teal")
    kinds = {name: (name, {}) for name in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM")}
    kinds["packed TIFF"] = ("TIFF", {"compression": "tiff_adobe_deflate"})
    kinds["MPO"] = ("MPO", {"save_all": True, "append_images": [picture()]})
    files = {kind: save(image, name, **options) for kind, (name, options) in kinds.items()}
    files["inks"] = save(image.convert("CMYK"), "JPEG")
    if features.check("avif"):
        files["AVIF"] = save(image, "AVIF")
    return files


def test_pixels_and_sides_are_limited_in_every_format() -> None:
    for kind, data in dimension_files().items():
        assert pixels_of(data) == 400 * 300, kind
        assert refusal_of(data, ImageLimits(max_pixels=400 * 300 - 1)).code == 413, kind
        assert refusal_of(data, ImageLimits(max_side=399)).code == 413, kind
        assert refusal_of(data, ImageLimits(max_bytes=len(data) - 1)).code == 413, kind


def test_a_tile_larger_than_any_picture_is_refused() -> None:
    packed = zlib.compress(bytes(1000))
    tags = {256: (64,), 257: (64,), 258: (8,), 259: (8,), 262: (1,), 277: (1,)}
    tiles = tags | {322: (20_000,), 323: (20_000,), 324: (8,), 325: (len(packed),)}
    refusal = refusal_of(tiff(tiles, [packed]))
    assert refusal.code == 413


def test_a_frame_of_a_gif_beyond_its_canvas_counts() -> None:
    data = bytearray(save(Image.new("P", (64, 64)), "GIF"))
    frame = data.index(b",")
    data[frame + 5 : frame + 9] = struct.pack("<HH", 60_000, 60_000)
    assert refusal_of(bytes(data)).code == 413


def slow_files() -> dict[str, Callable[[], bytes]]:
    """Files of megabytes in which a decoder loses itself for minutes, each a few pixels large."""
    jpeg = save(picture(), "JPEG")
    tags = struct.pack("<IH", 8, 65535) + (bytes(10) + b"\1\1") * 500_000
    return {
        "too many segments": lambda: with_segments(jpeg, segment(0xFE, b"") * 2_000_000),
        "too many comments": lambda: b"P1\n400 400\n" + b"#\n" * 4_000_000,
        "damaged": lambda: b"II*\0" + tags,
    }


@pytest.mark.parametrize("words", sorted(slow_files()))
def test_megabytes_of_small_pieces_are_refused_before_a_decoder_sees_them(words: str) -> None:
    refusal = refusal_of(slow_files()[words]())
    assert refusal.code == 422
    assert words in refusal.reason


def test_metadata_is_not_unpacked() -> None:
    jpeg, plain = save(picture(), "JPEG"), save(picture(), "PNG")
    packed = zlib.compress(bytes(200_000_000), 9)
    for chunk in (
        png_chunk(b"tEXt", b"") * 300_000,
        png_chunk(b"zTXt", b"a\0\0" + packed),
        png_chunk(b"iTXt", b"a\0\1\0\0\0" + packed),
        png_chunk(b"iCCP", b"a\0\0" + packed),
    ):
        data = plain[:33] + chunk + plain[33:]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert torch.equal(decode(data), decode(plain))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # KiB
        assert grown < 64 * 1024
    padded = with_segments(jpeg, b"\xff" * 2_000_000)
    assert torch.equal(decode(padded), decode(jpeg))


def test_frames_of_an_animation_behind_the_first_are_not_decoded() -> None:
    frames = [noise(64 + value, 64).resize((64, 64)) for value in range(4)]
    for file_format in ("GIF", "WEBP", "PNG"):
        options = {"lossless": True} if file_format == "WEBP" else {}
        first = decode(save(frames[0], file_format, **options))
        data = save(frames[0], file_format, save_all=True, append_images=frames[1:], **options)
        assert getattr(Image.open(io.BytesIO(data)), "n_frames", 1) == len(frames)
        broken = data[: len(data) * 2 // 3] + bytes(len(data) // 3)
        for answer in (decode(data), decode(broken)):
            assert torch.equal(answer, first) or file_format == "GIF"  # its palette differs
            assert answer.shape == first.shape
