"""Embedded colour profiles: pixels come out in sRGB, as the formulas of the profile say."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from image_files import (
    DISPLAY_P3,
    HEIGHT,
    SRGB,
    WIDTH,
    black_only_profile,
    decoded,
    grey_profile,
    in_srgb,
    noise,
    picture,
    pixels,
    png_chunk,
    rgb_profile,
    save,
    segment,
)
from PIL import Image, ImageCms, features

P3 = rgb_profile(DISPLAY_P3, 2.2)
SAME = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
FORMATS = {
    "JPEG": {"quality": 100, "subsampling": 0},
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {},
}


@pytest.mark.parametrize("file_format", sorted(FORMATS))
def test_the_colours_of_a_wide_profile_come_out_in_srgb(file_format: str) -> None:
    options = FORMATS[file_format]
    stored = decoded(save(picture(), file_format, **options))
    seen = decoded(save(picture(), file_format, icc_profile=P3, **options))
    assert np.abs(seen - in_srgb(stored, DISPLAY_P3, 2.2)).max() <= 2
    assert np.abs(seen.astype(int) - stored).max() > 15


@pytest.mark.parametrize("file_format", sorted(FORMATS))
def test_a_profile_of_srgb_changes_no_bit(file_format: str) -> None:
    options = FORMATS[file_format]
    plain = decoded(save(picture(), file_format, **options))
    data = save(picture(), file_format, icc_profile=SAME, **options)
    assert np.array_equal(decoded(data), plain)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")
def test_the_profile_of_an_avif_is_applied() -> None:
    options = {"quality": 100, "subsampling": "4:4:4"}
    stored = decoded(save(picture(), "AVIF", **options))
    seen = decoded(save(picture(), "AVIF", icc_profile=P3, **options))
    assert np.abs(seen - in_srgb(stored, DISPLAY_P3, 2.2)).max() <= 2


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF"])
def test_the_brightness_of_a_grey_profile_is_applied(file_format: str) -> None:
    grey = picture().convert("L")
    stored = decoded(save(grey, file_format))
    seen = decoded(save(grey, file_format, icc_profile=grey_profile(1.0)))
    assert np.abs(seen - in_srgb(stored, SRGB, 1.0)).max() <= 2
    assert np.abs(seen.astype(int) - stored).max() > 15


def test_a_grey_picture_with_a_colour_profile_is_read_as_its_greys() -> None:
    grey = picture().convert("L")
    stored = decoded(save(grey, "JPEG"))
    seen = decoded(save(grey, "JPEG", icc_profile=rgb_profile(DISPLAY_P3, 1.0)))
    assert np.abs(seen - in_srgb(stored, DISPLAY_P3, 1.0)).max() <= 2


def test_transparency_of_a_picture_with_a_profile_is_laid_on_white() -> None:
    rgba = picture().convert("RGBA")
    rgba.putalpha(Image.fromarray(np.full((HEIGHT, WIDTH), 100, np.uint8)))
    seen = decoded(save(rgba, "PNG", icc_profile=P3))
    shown = in_srgb(pixels(picture()), DISPLAY_P3, 2.2) * (100 / 255) + 255 * (155 / 255)
    assert np.abs(seen - shown).max() <= 2


def test_deep_grey_with_a_profile_keeps_both() -> None:
    levels = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    data = save(Image.fromarray(levels), "PNG", icc_profile=grey_profile(1.6))
    stored = np.repeat((levels / 257)[..., None], 3, axis=-1)
    assert np.abs(decoded(data) - in_srgb(stored, SRGB, 1.6)).max() <= 3


def test_a_profile_in_several_segments_in_any_order_is_put_together() -> None:
    data = save(picture(), "JPEG", quality=100, subsampling=0)
    half = len(P3) // 2
    parts = [segment(0xE2, b"ICC_PROFILE\0\2\2" + P3[half:])]
    parts.append(segment(0xE2, b"ICC_PROFILE\0\1\2" + P3[:half]))
    seen = decoded(data[:2] + b"".join(parts) + data[2:])
    assert np.abs(seen - in_srgb(decoded(data), DISPLAY_P3, 2.2)).max() <= 2


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"?" * 200,
        P3[:100],
        P3[:300],
        P3.replace(b"RGB ", b"CMYK"),
        P3.replace(b"curv", b"????"),
    ],
    ids=["empty", "noise", "header cut", "tags cut", "another space", "unknown curves"],
)
@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_a_damaged_profile_is_ignored(file_format: str, damaged: bytes) -> None:
    plain = save(picture(), file_format)
    if file_format == "JPEG":
        data = plain[:2] + segment(0xE2, b"ICC_PROFILE\0\1\1" + damaged) + plain[2:]
    else:
        chunk = png_chunk(b"iCCP", b"x\0\0" + zlib.compress(damaged))
        data = plain[:33] + chunk + plain[33:]
    assert np.array_equal(decoded(data), decoded(plain))


def test_a_png_with_an_unusual_profile_is_read() -> None:
    plain = save(picture(), "PNG")
    wide = decoded(save(picture(), "PNG", icc_profile=P3))

    def with_profiles(*bodies: bytes) -> np.ndarray:
        chunks = b"".join(png_chunk(b"iCCP", b"name\0" + body) for body in bodies)
        return decoded(plain[:33] + chunks + plain[33:])

    packed = zlib.compress(P3)
    assert np.array_equal(with_profiles(b"\0" + packed, b"\0" + packed), wide)  # of iPhones
    assert np.array_equal(with_profiles(b"\1" + packed), decoded(plain))  # an unknown packing
    inks = black_only_profile() + np.random.default_rng(1).bytes(1_500_000)
    assert np.array_equal(with_profiles(b"\0" + zlib.compress(inks)), decoded(plain))


def test_a_large_picture_is_converted_as_a_small_one_is() -> None:
    small = noise(64, 32)
    tall = Image.fromarray(np.tile(np.asarray(small), (40, 16, 1)))  # 1.3 million pixels
    for file_format in ("PNG", "TIFF"):
        seen = decoded(save(tall, file_format, icc_profile=P3))
        expected = np.tile(decoded(save(small, file_format, icc_profile=P3)), (40, 16, 1))
        assert np.array_equal(seen, expected)
    jpeg = save(tall, "JPEG", quality=100, subsampling=0, icc_profile=P3)
    stored = np.asarray(Image.open(io.BytesIO(jpeg)))
    assert np.abs(decoded(jpeg) - in_srgb(stored, DISPLAY_P3, 2.2)).max() <= 2


def test_a_picture_of_inks_is_shown_as_its_profile_says() -> None:
    *colours, black = picture().convert("CMYK").split()
    inks = Image.merge("CMYK", [*colours, black.point(lambda _: 128)])
    seen = decoded(save(inks, "JPEG", quality=100, icc_profile=black_only_profile()))
    assert np.abs(seen.astype(int) - 119).max() <= 3  # a lightness of 50 of 100 (CIE 15)
    plain = decoded(save(inks, "JPEG", quality=100))
    assert np.ptp(plain) > 30
    other = save(inks, "JPEG", quality=100, icc_profile=P3)  # a profile that is not one of inks
    assert np.array_equal(decoded(other), plain)
