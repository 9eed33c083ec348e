"""One rule for all formats: a picture whose pixels are all there is read; others are refused."""

from __future__ import annotations

import numpy as np
import pytest
from image_files import (
    decoded,
    exif_block,
    multi_picture_segment,
    noise,
    png,
    png_chunk,
    refusal_of,
    save,
    segment,
    with_segments,
)
from PIL import Image, features

TAILS = {
    "zeros": bytes(1000),
    "text": b"trailer " * 40,
    "end markers": b"\xff\xd9" * 20,
    "scans": b"\xff\xda" * 60,
    "frame headers": b"\xff\xc0\x00\x11" * 20,
    "noise": np.random.default_rng(8).bytes(3000),
}


def files() -> dict[str, bytes]:
    kinds = {
        "jpeg": ("JPEG", {"quality": 90}),
        "progressive": ("JPEG", {"quality": 90, "progressive": True}),
        "restarts": ("JPEG", {"quality": 90, "restart_marker_blocks": 4}),
        "png": ("PNG", {}),
        "gif": ("GIF", {}),
        "webp": ("WEBP", {"lossless": True}),
        "lossy webp": ("WEBP", {}),
        "bmp": ("BMP", {}),
        "tiff": ("TIFF", {}),
        "lzw tiff": ("TIFF", {"compression": "tiff_lzw"}),
        "jpeg tiff": ("TIFF", {"compression": "jpeg"}),
        "ppm": ("PPM", {}),
    }
    if features.check("avif"):
        kinds["avif"] = ("AVIF", {})
    made = {kind: save(noise(127, 95), name, **options) for kind, (name, options) in kinds.items()}
    cmyk = noise(127, 95).convert("CMYK")
    return made | {"grey": save(noise(127, 95).convert("L"), "JPEG"), "inks": save(cmyk, "JPEG")}


FILES = files()
JPEGS = ("jpeg", "progressive", "restarts", "grey", "inks")


@pytest.mark.parametrize("tail", sorted(TAILS))
@pytest.mark.parametrize("kind", sorted(FILES))
def test_bytes_behind_a_picture_change_nothing(kind: str, tail: str) -> None:
    assert np.array_equal(decoded(FILES[kind] + TAILS[tail]), decoded(FILES[kind]))


@pytest.mark.parametrize("kind", sorted(FILES))
def test_a_quarter_of_a_picture_that_is_missing_refuses_it(kind: str) -> None:
    data = FILES[kind]
    assert refusal_of(data[: len(data) * 3 // 4]).code == 422


@pytest.mark.parametrize("kind", sorted(JPEGS))
def test_a_jpeg_that_lacks_only_its_end_marker_is_read(kind: str) -> None:
    data = FILES[kind]
    assert data[-2:] == b"\xff\xd9"
    for shorter in (data[:-1], data[:-2], data[:-2] + bytes(500)):
        assert np.array_equal(decoded(shorter), decoded(data))


@pytest.mark.parametrize("cut", [4, 5, 9, 20, 60, 300, 2000])
@pytest.mark.parametrize("kind", sorted(JPEGS))
def test_a_jpeg_that_lacks_more_than_its_end_marker_is_refused(kind: str, cut: int) -> None:
    shorter = FILES[kind][:-cut]
    assert refusal_of(shorter).code == 422
    assert refusal_of(shorter + bytes(500)).code == 422


@pytest.mark.parametrize("kind", ["jpeg", "grey", "inks"])
def test_a_cut_jpeg_that_was_closed_with_an_end_marker_is_refused(kind: str) -> None:
    data = FILES[kind]
    assert refusal_of(data[: len(data) * 3 // 4] + b"\xff\xd9").code == 422


def test_a_grey_corner_is_no_reason_to_refuse_a_picture() -> None:
    flat = Image.new("RGB", (64, 64), (128, 128, 128))
    for options in ({}, {"progressive": True}):
        assert decoded(save(flat, "JPEG", **options)).shape == (64, 64, 3)
    assert decoded(save(Image.new("CMYK", (64, 64), (127, 127, 127, 127)), "JPEG")).shape[0] == 64


def test_a_video_behind_a_large_photo_is_not_counted_as_scans() -> None:
    data = save(Image.new("RGB", (8000, 6000), "teal"), "JPEG", quality=50)
    assert decoded(data + b"\xff\xda" * 200).shape == (6000, 8000, 3)


def test_a_trailer_behind_a_jpeg_without_end_marker_changes_nothing() -> None:
    # As some phones write panoramas: the pixels, no end marker, and a maker's block of data.
    data = FILES["jpeg"]
    trailer = b"\x00\x00\x01\x0bImage_UTC_Data1577836800000SEFHk\x00\x00\x00SEFT"
    assert np.array_equal(decoded(data[:-2] + trailer), decoded(data))


def test_a_png_without_its_last_chunk_is_read() -> None:
    assert np.array_equal(decoded(FILES["png"][:-12]), decoded(FILES["png"]))


def test_a_gif_without_its_trailer_is_read() -> None:
    assert np.array_equal(decoded(FILES["gif"][:-1]), decoded(FILES["gif"]))


def test_a_bitmap_without_the_bytes_that_fill_up_its_last_row_is_read() -> None:
    data = FILES["bmp"]  # rows of 381 bytes and 3 more
    assert np.array_equal(decoded(data[:-3]), decoded(data))
    assert refusal_of(data[:-4]).code == 422


def test_a_webp_of_which_only_metadata_or_a_filling_byte_is_missing_is_read() -> None:
    plain = decoded(FILES["webp"])
    described = save(noise(127, 95), "WEBP", lossless=True, xmp=b"<x/>" * 100, exif=exif_block(1))
    for cut in (1, 30, 300):
        assert np.array_equal(decoded(described[:-cut]), plain)
    odd = next(
        data
        for data in (save(noise(side, 9), "WEBP", lossless=True) for side in range(9, 60))
        if data[-1] == 0 and int.from_bytes(data[16:20], "little") % 2
    )
    assert np.array_equal(decoded(odd[:-1]), decoded(odd))
    assert refusal_of(odd[:-2]).code == 422


@pytest.mark.parametrize("name", [b"tEXt", b"zTXt", b"iTXt", b"tIME", b"eXIf", b"iCCP", b"gAMA"])
def test_a_png_whose_metadata_is_damaged_is_read(name: bytes) -> None:
    data = save(noise(), "PNG")
    broken = png_chunk(name, b"Comment\0\0\0damaged")[:-1] + b"?"
    assert np.array_equal(decoded(data[:33] + broken + data[33:]), decoded(data))
    assert np.array_equal(decoded(data[:-12] + broken + data[-12:]), decoded(data))


@pytest.mark.parametrize("name", [b"IHDR", b"IDAT", b"PLTE", b"tRNS"])
def test_a_png_whose_pixels_or_colours_are_damaged_is_refused(name: bytes) -> None:
    palette = noise().quantize(16)
    data = bytearray(save(palette, "PNG", transparency=bytes([0] * 4 + [255] * 12)))
    start = data.index(name)
    (length,) = (int.from_bytes(data[start - 4 : start], "big"),)
    data[start + 4 + length] ^= 0xFF  # its checksum
    assert refusal_of(bytes(data)).code == 422


def test_a_damaged_segment_of_a_maker_is_no_reason_to_refuse_a_jpeg() -> None:
    data = FILES["jpeg"]
    for body in (b"Exif\0\0" + b"\xff" * 50, b"ICC_PROFILE\0\1\1" + b"?" * 90, b"MPF\0" + b"?" * 9):
        marker = 0xE2 if body.startswith((b"ICC", b"MPF")) else 0xE1
        damaged = data[:2] + segment(marker, body) + data[2:]
        assert np.array_equal(decoded(damaged), decoded(data))


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")
def test_damaged_exif_data_are_no_reason_to_refuse_an_avif() -> None:
    block = exif_block(6, entries_before=1)
    data = save(noise(127, 95), "AVIF", exif=b"Exif\0\0" + block)
    assert decoded(data).shape == (127, 95, 3)  # turned by its own property
    start = data.index(b"Exif\0\0II*\0") + 6
    assert np.array_equal(decoded(data[:start] + b"??" + data[start + 2 :]), decoded(data))


def test_a_gain_map_behind_a_photo_is_not_the_photo() -> None:
    gain_map = save(Image.new("L", (16, 12), 77), "JPEG")
    photo = with_segments(FILES["jpeg"], multi_picture_segment())
    assert np.array_equal(decoded(photo + gain_map), decoded(FILES["jpeg"]))


def test_rows_that_are_missing_from_a_png_refuse_it() -> None:
    assert refusal_of(png(8, 8, 8, 0, bytes(9 * 4))).code == 422
