"""Pictures of every format come out with the pixels that their format promises."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from image_files import (
    AVIF,
    HEIGHT,
    ORIENTATION,
    WIDTH,
    decoded,
    picture,
    pixels,
    png,
    save,
)
from PIL import Image

# What a camera held that way has stored: the inverse of the turn that EXIF asks for.
_STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def on_white(rgba: Image.Image) -> np.ndarray:
    values = np.asarray(rgba, dtype=np.float64)
    alpha = values[..., 3:] / 255.0
    return values[..., :3] * alpha + 255.0 * (1.0 - alpha)


def tiff_rgb16(values: np.ndarray) -> bytes:
    """A little-endian TIFF of 16-bit RGB values, HxWx3, in one strip."""
    height, width, _ = values.shape
    data = values.astype("<u2").tobytes()
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 3, 8),  # offset of the three bit depths
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 14),  # offset of the strip
        (277, 3, 1, 3),
        (278, 4, 1, height),
        (279, 4, 1, len(data)),
    ]
    table = struct.pack("<H", len(entries))
    table += b"".join(struct.pack("<HHII", *entry) for entry in entries) + struct.pack("<I", 0)
    return (
        b"II*\0"
        + struct.pack("<I", 14 + len(data))
        + struct.pack("<HHH", 16, 16, 16)
        + data
        + table
    )


# --- JPEG ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"quality": 90},
        {"quality": 90, "progressive": True},
        {"quality": 75, "subsampling": "4:2:0"},
        {"quality": 75, "subsampling": "4:4:4"},
        {"quality": 75, "optimize": True},
    ],
    ids=["plain", "progressive", "420", "444", "optimised"],
)
def test_the_pixels_of_a_jpeg_equal_pillows(options: dict[str, object]) -> None:
    data = save(picture(), "JPEG", **options)
    assert np.array_equal(decoded(data), pixels(Image.open(io.BytesIO(data))))


def test_a_grey_jpeg_becomes_three_equal_channels() -> None:
    data = save(picture().convert("L"), "JPEG")
    assert np.array_equal(decoded(data), pixels(Image.open(io.BytesIO(data))))


def test_a_cmyk_jpeg_as_adobe_writes_it_shows_its_colours_and_not_their_negative() -> None:
    data = save(picture().convert("CMYK"), "JPEG", quality=95)
    assert b"Adobe" in data  # the marker under which inks are stored inverted
    difference = np.abs(decoded(data).astype(int) - pixels(picture()).astype(int))
    assert difference.mean() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_turned_by_exif_gives_the_same_picture(orientation: int) -> None:
    turn = _STORED[orientation]
    stored = picture().transpose(turn) if turn is not None else picture()
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = save(stored, "JPEG", quality=100, subsampling=0, exif=exif)
    upright = decoded(data)
    assert upright.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(upright.astype(int) - pixels(picture()).astype(int)).max() <= 4


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [3, 6])
def test_other_formats_are_turned_as_exif_says_too(file_format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"lossless": True} if file_format == "WEBP" else {}
    stored = picture().transpose(_STORED[orientation])
    data = save(stored, file_format, exif=exif, **options)
    assert np.array_equal(decoded(data), pixels(picture()))


def test_exif_that_makes_no_sense_does_not_cost_the_picture() -> None:
    for file_format in ("PNG", "JPEG"):
        data = save(picture(), file_format, exif=b"Exif\0\0" + b"\xff" * 40)
        assert decoded(data).shape == (HEIGHT, WIDTH, 3)


def test_of_a_stereo_picture_the_first_view_counts() -> None:
    data = save(picture(), "MPO", save_all=True, append_images=[picture(1)], quality=95)
    difference = np.abs(decoded(data).astype(int) - pixels(picture()).astype(int))
    assert difference.mean() < 4


# --- PNG ----------------------------------------------------------------------------------------


def test_a_png_is_read_exactly() -> None:
    assert np.array_equal(decoded(save(picture(), "PNG")), pixels(picture()))


def test_transparency_is_laid_on_white() -> None:
    rgba = picture().convert("RGBA")
    ramp = np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8), (HEIGHT, 1))
    rgba.putalpha(Image.fromarray(ramp))
    seen = decoded(save(rgba, "PNG"))
    assert np.abs(seen - on_white(rgba)).max() <= 1
    assert (seen[:, 0] == 255).all()


def test_grey_with_transparency_is_laid_on_white() -> None:
    la = Image.new("LA", (4, 2), (10, 0))
    la.putpixel((1, 0), (10, 255))
    seen = decoded(save(la, "PNG"))
    assert seen[0, 1].tolist() == [10, 10, 10]
    assert seen[0, 0].tolist() == [255, 255, 255]


def test_a_palette_png_shows_the_colours_of_its_palette() -> None:
    palette = picture().quantize(16)
    assert np.array_equal(decoded(save(palette, "PNG")), pixels(palette))


def test_a_transparent_palette_entry_turns_white() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([200, 0, 0, 0, 0, 200])
    palette.putpixel((1, 0), 1)
    seen = decoded(save(palette, "PNG", transparency=bytes([0, 255])))
    assert seen[0].tolist() == [[255, 255, 255], [0, 0, 200]]


def test_a_transparent_colour_turns_white() -> None:
    image = Image.new("RGB", (2, 1), (200, 0, 0))
    image.putpixel((1, 0), (0, 0, 200))
    seen = decoded(save(image, "PNG", transparency=(200, 0, 0)))
    assert seen[0].tolist() == [[255, 255, 255], [0, 0, 200]]


def test_a_one_bit_png_is_black_and_white() -> None:
    bits = picture().convert("1")
    seen = decoded(save(bits, "PNG"))
    assert np.array_equal(seen, pixels(bits))
    assert set(np.unique(seen)) == {0, 255}


def test_sixteen_bit_grey_is_scaled_exactly() -> None:
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    seen = decoded(save(Image.fromarray(levels * 257), "PNG"))
    assert np.array_equal(seen[..., 0], levels)
    assert np.array_equal(seen[..., 0], seen[..., 2])


def test_a_dark_sixteen_bit_picture_stays_dark() -> None:
    dark = np.full((4, 4), 200, dtype=np.uint16)  # 0.3 % of white
    assert decoded(save(Image.fromarray(dark), "PNG")).max() <= 1


def test_sixteen_bit_rgb_png_keeps_the_upper_bytes() -> None:
    rgb = pixels(picture()).astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in rgb.astype(">u2"))
    seen = decoded(png(WIDTH, HEIGHT, 16, 2, rows))
    assert np.array_equal(seen, pixels(picture()))


# --- other formats ------------------------------------------------------------------------------


@pytest.mark.parametrize("file_format", ["BMP", "TIFF", "PPM"])
def test_a_lossless_format_is_read_exactly(file_format: str) -> None:
    assert np.array_equal(decoded(save(picture(), file_format)), pixels(picture()))


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_a_compressed_tiff_is_read_exactly(compression: str) -> None:
    data = save(picture(), "TIFF", compression=compression)
    assert np.array_equal(decoded(data), pixels(picture()))


def test_a_lossless_webp_is_read_exactly() -> None:
    assert np.array_equal(decoded(save(picture(), "WEBP", lossless=True)), pixels(picture()))


def test_a_gif_shows_the_colours_of_its_palette() -> None:
    palette = picture().quantize(32)
    assert np.array_equal(decoded(save(palette, "GIF")), pixels(palette))


@pytest.mark.parametrize(
    ("file_format", "options"),
    [
        ("GIF", {}),
        ("WEBP", {"lossless": True}),
        ("PNG", {}),
        ("TIFF", {}),
    ],
)
def test_of_several_frames_the_first_counts(file_format: str, options: dict[str, object]) -> None:
    first, second = picture().quantize(32), picture(1).quantize(32)
    if file_format != "GIF":
        first, second = first.convert("RGB"), second.convert("RGB")
    data = save(first, file_format, save_all=True, append_images=[second], **options)
    assert getattr(Image.open(io.BytesIO(data)), "n_frames", 1) == 2
    assert np.array_equal(decoded(data), pixels(first))


def test_a_sixteen_bit_grey_tiff_is_scaled_exactly() -> None:
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    seen = decoded(save(Image.fromarray(levels * 257), "TIFF"))
    assert np.array_equal(seen[..., 1], levels)


def test_a_sixteen_bit_rgb_tiff_is_scaled_exactly() -> None:
    values = pixels(picture()).astype(np.uint16) * 257
    assert np.array_equal(decoded(tiff_rgb16(values)), pixels(picture()))


def test_a_float_tiff_with_a_missing_value_is_read() -> None:
    values = np.full((4, 4), 0.5, dtype=np.float32)
    values[0, 0] = np.nan
    seen = decoded(save(Image.fromarray(values), "TIFF"))
    assert abs(int(seen[1, 1, 0]) - 127) <= 1
    assert seen[0, 0].tolist() == [0, 0, 0]


@pytest.mark.skipif(not AVIF, reason="this Pillow was built without AVIF")
def test_an_avif_is_read() -> None:
    data = save(picture(), "AVIF", quality=95)
    difference = np.abs(decoded(data).astype(int) - pixels(picture()).astype(int))
    assert difference.mean() < 4


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1)])
def test_a_picture_one_pixel_thin_is_a_picture(size: tuple[int, int]) -> None:
    for file_format in ("JPEG", "PNG"):
        data = save(picture().resize(size), file_format)
        assert decoded(data).shape == (size[1], size[0], 3)
