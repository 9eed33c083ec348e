"""Any bytes in: a prediction-ready tensor, or a refusal that says why."""

from __future__ import annotations

import io
import resource
import struct
import time
import zipfile
import zlib
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, features

from handler.images import ImageRefused, decode, pixels_of
from handler.values.limits import ImageLimits

WIDTH, HEIGHT = 48, 32
AVIF = features.check("avif")
_ORIENTATION = 0x0112
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


@cache
def picture(seed: int = 0) -> Image.Image:
    """A smooth colour picture, 48x32."""
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)


def noise(size: int = 128) -> Image.Image:
    """A picture that no format compresses well, so that half of its file misses half of it."""
    values = np.random.default_rng(3).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return Image.fromarray(values)


def save(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"))


def decoded(data: bytes) -> np.ndarray:
    """Decode, HxWx3, having checked what every answer promises."""
    tensor = decode(data)
    assert tensor.dtype == torch.uint8
    assert tensor.ndim == 3
    assert tensor.shape[0] == 3
    return tensor.permute(1, 2, 0).numpy()


def on_white(rgba: Image.Image) -> np.ndarray:
    values = np.asarray(rgba, dtype=np.float64)
    alpha = values[..., 3:] / 255.0
    return values[..., :3] * alpha + 255.0 * (1.0 - alpha)


def png(width: int, height: int, depth: int, colour_type: int, raw: bytes) -> bytes:
    """A PNG file from unfiltered rows, each led by its filter byte."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


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


def answer_to(data: bytes) -> torch.Tensor | ImageRefused:
    try:
        return decode(data, ImageLimits(max_pixels=1_000_000))
    except ImageRefused as refusal:
        return refusal


def refusal_of(data: bytes, limits: ImageLimits | None = None) -> ImageRefused:
    with pytest.raises(ImageRefused) as caught:
        decode(data, limits)
    reason = caught.value.reason
    assert reason
    assert "\n" not in reason
    return caught.value


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
    exif[_ORIENTATION] = orientation
    data = save(stored, "JPEG", quality=100, subsampling=0, exif=exif)
    upright = decoded(data)
    assert upright.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(upright.astype(int) - pixels(picture()).astype(int)).max() <= 4


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [3, 6])
def test_other_formats_are_turned_as_exif_says_too(file_format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
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


# --- refusals -----------------------------------------------------------------------------------


def test_no_bytes_are_refused_with_400() -> None:
    refusal = refusal_of(b"")
    assert refusal.code == 400
    assert "empty" in refusal.reason


@pytest.mark.parametrize(
    "data",
    [
        b"<!DOCTYPE html><html><body>404</body></html>",
        b"\n  <html><body>moved</body></html>",
        b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
        b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
    ],
    ids=["doctype", "html", "xml", "svg"],
)
def test_markup_is_refused_with_415_and_called_markup(data: bytes) -> None:
    refusal = refusal_of(data)
    assert refusal.code == 415
    assert "markup" in refusal.reason


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr("photo.jpg", save(picture(), "JPEG"))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.random.default_rng(5).bytes(4096),
        lambda: b"hello, I am a text",
        lambda: b"\0",
        lambda: save(picture(), "PDF"),
        lambda: save(picture(), "EPS"),
        lambda: save(picture(), "ICO"),
        _zip,
    ],
    ids=["noise", "text", "zero", "pdf", "eps", "ico", "zip"],
)
def test_what_holds_no_photo_is_refused_with_415(make: Callable[[], bytes]) -> None:
    refusal = refusal_of(make())
    assert refusal.code == 415
    assert "JPEG" in refusal.reason


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_half_of_a_picture_is_refused_with_422(file_format: str) -> None:
    data = save(noise(), file_format)
    assert refusal_of(data[: len(data) // 2]).code == 422


def test_a_truncated_progressive_jpeg_is_refused_with_422() -> None:
    data = save(noise(), "JPEG", progressive=True)
    assert refusal_of(data[: len(data) * 9 // 10]).code == 422


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF"])
def test_a_picture_cut_inside_its_header_is_damaged_and_not_unknown(file_format: str) -> None:
    refusal = refusal_of(save(noise(), file_format)[:20])
    assert refusal.code == 422
    assert "damaged" in refusal.reason


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF"])
def test_a_corrupted_picture_is_refused_with_422_or_read_in_its_own_size(file_format: str) -> None:
    data = bytearray(save(noise(), file_format))
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(64)
    answer = answer_to(bytes(data))
    if isinstance(answer, ImageRefused):
        assert answer.code == 422
    else:
        assert answer.shape == (3, 128, 128)


def test_a_png_with_a_wrong_checksum_is_refused_with_422() -> None:
    data = bytearray(save(noise(), "PNG"))
    data[len(data) // 2] ^= 0xFF
    assert refusal_of(bytes(data)).code == 422


@pytest.mark.threat("T8")
def test_too_many_bytes_are_refused_with_413() -> None:
    data = save(picture(), "PNG")
    refusal = refusal_of(data, ImageLimits(max_bytes=len(data) - 1))
    assert refusal.code == 413
    assert str(len(data)) in refusal.reason
    assert decode(data, ImageLimits(max_bytes=len(data))).shape == (3, HEIGHT, WIDTH)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF", "TIFF", "WEBP"])
@pytest.mark.threat("T8")
def test_too_many_pixels_are_refused_with_413(file_format: str) -> None:
    data = save(picture(), file_format)
    refusal = refusal_of(data, ImageLimits(max_pixels=WIDTH * HEIGHT - 1))
    assert refusal.code == 413
    assert f"{WIDTH}x{HEIGHT}" in refusal.reason
    assert decode(data, ImageLimits(max_pixels=WIDTH * HEIGHT)).shape == (3, HEIGHT, WIDTH)


@pytest.mark.parametrize("side", [8001, 12000, 50000])
@pytest.mark.filterwarnings("error")
@pytest.mark.threat("T8")
def test_a_decompression_bomb_is_refused_without_being_unpacked(side: int) -> None:
    bomb = png(side, side, 8, 2, bytes(1000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    refusal = refusal_of(bomb)
    assert time.process_time() - start < 1.0
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # KiB
    assert grown < 64 * 1024
    assert refusal.code == 413


# --- the law ------------------------------------------------------------------------------------


@cache
def samples() -> dict[str, bytes]:
    """One small valid file of each kind."""
    exif = Image.Exif()
    exif[_ORIENTATION] = 6
    rgba = picture().convert("RGBA")
    files = {
        "jpeg": save(picture(), "JPEG", exif=exif),
        "progressive": save(picture(), "JPEG", progressive=True),
        "cmyk": save(picture().convert("CMYK"), "JPEG"),
        "mpo": save(picture(), "MPO", save_all=True, append_images=[picture(1)]),
        "png": save(picture(), "PNG", exif=exif),
        "palette": save(picture().quantize(8), "PNG", transparency=0),
        "apng": save(rgba, "PNG", save_all=True, append_images=[picture(1).convert("RGBA")]),
        "gif": save(picture(), "GIF", save_all=True, append_images=[picture(1)]),
        "webp": save(picture(), "WEBP"),
        "bmp": save(picture(), "BMP"),
        "tiff": save(picture(), "TIFF", compression="tiff_lzw"),
        "ppm": save(picture(), "PPM"),
    }
    if AVIF:
        files["avif"] = save(picture(), "AVIF")
    return files


def is_answered(data: bytes) -> None:
    """A tensor or a refusal; anything else fails the test by itself."""
    answer = answer_to(data)
    if isinstance(answer, ImageRefused):
        assert answer.code in (400, 413, 415, 422)
        assert answer.reason
        assert "\n" not in answer.reason
    else:
        assert answer.dtype == torch.uint8
        assert answer.shape[0] == 3
        assert answer.numel() > 0


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
@example(b"P6\n0 0\n255\n")
@example(b"\xff\xd8\xff\xd9")
def test_arbitrary_bytes_get_a_picture_or_a_refusal(data: bytes) -> None:
    is_answered(data)


@settings(max_examples=400, deadline=None)
@given(
    kind=st.sampled_from(sorted(samples())),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6),
    in_header=st.booleans(),
    keep=st.floats(0, 1) | st.just(1.0),
)
@pytest.mark.filterwarnings("ignore")
def test_a_mutated_picture_gets_a_picture_or_a_refusal(
    kind: str, edits: list[tuple[float, int]], in_header: bool, keep: float
) -> None:
    data = bytearray(samples()[kind])
    reach = min(len(data), 200) if in_header else len(data)
    for place, value in edits:
        data[min(int(place * reach), len(data) - 1)] = value
    is_answered(bytes(data[: int(keep * len(data))]))


def progressive_with_scans(side: int, count: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    data = save(Image.new("L", (side, side), 128), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * count + b"\xff\xd9"


@pytest.mark.threat("T8")
def test_a_jpeg_that_goes_over_its_pixels_thousands_of_times_is_refused_at_once() -> None:
    # Without the limit this one takes minutes of a processor.
    data = progressive_with_scans(4000, 3000)
    began = time.process_time()
    with pytest.raises(ImageRefused, match="scans") as caught:
        decode(data)
    assert caught.value.code == 413
    assert time.process_time() - began < 5


def test_an_ordinary_progressive_jpeg_is_read() -> None:
    data = save(Image.new("RGB", (4000, 4000), "teal"), "JPEG", progressive=True)
    assert data.count(b"\xff\xda") >= 8
    assert decode(data).shape == (3, 4000, 4000)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "I;16", "F", "I", "CMYK", "1"])
def test_a_picture_of_many_pixels_is_converted_as_one_of_few_is(mode: str) -> None:
    values = np.random.default_rng(4).integers(0, 60_000, (30, 40)).astype(np.uint16)
    small = Image.fromarray(values) if mode == "I;16" else picture().convert("RGBA").convert(mode)
    width, height = small.size
    large = Image.new(mode, (width * 25, height * 37))  # more than a million pixels
    if mode == "P":
        large.putpalette(small.getpalette() or [])
    for left in range(0, large.width, width):
        for top in range(0, large.height, height):
            large.paste(small, (left, top))
    assert large.width * large.height > 1_000_000
    expected = decode(save(small, "TIFF")).repeat(1, 37, 25)
    assert torch.equal(decode(save(large, "TIFF")), expected)


def test_pixels_are_told_from_the_header_alone() -> None:
    data = save(picture(), "PNG")
    assert pixels_of(data) == WIDTH * HEIGHT
    assert pixels_of(data[:60]) == WIDTH * HEIGHT
    assert pixels_of(b"text") == 0


@pytest.mark.threat("T8")
def test_a_picture_of_one_column_and_millions_of_rows_is_refused() -> None:
    # Brought to 224 columns before its rows are joined, it would take 53 GB.
    with pytest.raises(ImageRefused, match="on a side") as caught:
        decode(save(Image.new("L", (1, 1_000_000)), "PNG"))
    assert caught.value.code == 413
