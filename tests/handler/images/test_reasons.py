"""Reasons of refusals: what is whole is not called damaged, and what is known is named."""

from __future__ import annotations

import io
import struct
import sys

import numpy as np
import pytest
from image_files import (
    DISPLAY_P3,
    HEIGHT,
    WIDTH,
    decoded,
    exif_block,
    in_srgb,
    noise,
    picture,
    pixels,
    refusal_of,
    rgb_profile,
    save,
    segment,
)

from handler.images import ImageRefused, decode, pixels_of


def jpeg_of_kind(
    marker: int, precision: int = 8, height: int = HEIGHT, components: int = 3
) -> bytes:
    """A JPEG file that says that it is of another kind than its pixels are."""
    data = save(picture(), "JPEG")
    frame = data.index(b"\xff\xc0")
    (length,) = struct.unpack_from(">H", data, frame + 2)
    body = struct.pack(">BHHB", precision, height, WIDTH, components)
    for identifier in range(1, components + 1):
        body += bytes([identifier, 0x11, 0])
    return data[:frame] + segment(marker, body) + data[frame + 2 + length :]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (jpeg_of_kind(0xC1, precision=12), "12 bits"),
        (jpeg_of_kind(0xC2, precision=12), "12 bits"),
        (jpeg_of_kind(0xC3), "lossless JPEG"),
        (jpeg_of_kind(0xCB), "lossless JPEG"),
        (jpeg_of_kind(0xF7), "JPEG-LS"),
        (jpeg_of_kind(0xC5), "hierarchical"),
        (jpeg_of_kind(0xC0, height=0), "DNL"),
        (jpeg_of_kind(0xC0, components=2), "2 components"),
    ],
    ids=["12-bit", "12-bit progressive", "lossless", "arithmetic", "ls", "stages", "dnl", "two"],
)
def test_a_jpeg_of_another_kind_is_called_so_and_not_damaged(data: bytes, words: str) -> None:
    refusal = refusal_of(data)
    assert refusal.code == 415
    assert words in refusal.reason
    assert "damaged" not in refusal.reason
    assert "not supported" in refusal.reason


def test_a_jpeg_header_without_a_picture_is_damaged() -> None:
    data = save(picture(), "JPEG")
    for cut in (3, 20, data.index(b"\xff\xda")):
        refusal = refusal_of(data[:cut])
        assert refusal.code == 422
        assert "JPEG" in refusal.reason


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"%PDF-1.7\n", "PDF"),
        (b"8BPS\0\1", "Photoshop"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\xff\x0a\xfa\x1f", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"FUJIFILMCCD-RAW 0201", "raw file"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1", "raw file"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", "video"),
        (b"\0\0\1\0\1\0\x10\x10", "icon"),
        (b"PK\3\4\x14\0", "ZIP"),
    ],
)
def test_what_is_known_but_no_photo_is_named(start: bytes, words: str) -> None:
    refusal = refusal_of(start + bytes(200))
    assert refusal.code == 415
    assert words in refusal.reason


def test_a_bitmap_packed_in_a_way_that_is_not_read_is_not_called_damaged() -> None:
    data = bytearray(save(picture(), "BMP"))
    data[30:34] = struct.pack("<I", 4)  # a JPEG file inside
    refusal = refusal_of(bytes(data))
    assert refusal.code == 415
    assert "BMP" in refusal.reason


def test_a_png_of_an_ios_program_is_called_so() -> None:
    data = save(picture(), "PNG")
    refusal = refusal_of(data[:8] + struct.pack(">I4sII", 4, b"CgBI", 0x50002002, 0) + data[8:])
    assert refusal.code == 415
    assert "CgBI" in refusal.reason


# --- HEIC ---------------------------------------------------------------------------------------

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1", b"msf1"])
def test_heic_is_named_where_it_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, brand: bytes
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    data = HEIC[:8] + brand + HEIC[12:]
    refusal = refusal_of(data)
    assert refusal.code == 415
    assert "HEIC" in refusal.reason
    assert "pillow-heif" in refusal.reason
    assert pixels_of(data) == 0


def heic(image: object, **options: object) -> bytes:
    heif = pytest.importorskip(
        "pillow_heif", reason="pillow-heif, the extra heic, is not installed"
    )
    heif.register_heif_opener()
    return save(image, "HEIF", **options)


def test_heic_is_read_where_it_can_be() -> None:
    data = heic(picture(), quality=95)
    assert np.abs(decoded(data) - pixels(picture()).astype(int)).mean() < 4
    assert pixels_of(data) == WIDTH * HEIGHT
    assert np.array_equal(decoded(data + b"trailer" * 99), decoded(data))


def test_heic_is_turned_once_and_its_profile_applied() -> None:
    turned = heic(picture(), quality=95, exif=b"Exif\0\0" + exif_block(6))
    upright = decoded(heic(picture(), quality=95))
    assert np.abs(decoded(turned) - np.rot90(upright, -1).astype(int)).mean() < 2
    wide = decoded(heic(picture(), quality=95, icc_profile=rgb_profile(DISPLAY_P3, 2.2)))
    assert np.abs(wide - in_srgb(upright, DISPLAY_P3, 2.2)).mean() < 2


def test_a_cut_heic_is_damaged() -> None:
    data = heic(noise(), quality=90)
    refusal = refusal_of(data[: len(data) * 3 // 4])
    assert refusal.code == 422
    with pytest.raises(ImageRefused):
        decode(HEIC)
    assert io.BytesIO(data).read(12)[4:8] == b"ftyp"
