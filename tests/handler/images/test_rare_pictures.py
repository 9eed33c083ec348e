"""Pictures that decoders show wrongly, compared with what their specifications say."""

from __future__ import annotations

import itertools
import struct
import zlib

import numpy as np
import pytest
from image_files import (
    HEIGHT,
    WIDTH,
    decoded,
    noise,
    picture,
    pixels,
    png,
    png_chunk,
    refusal_of,
    save,
    tiff,
)
from PIL import Image

from handler.images import ImageRefused

ALL_ZERO, VARIED = "zero", "varied"


def on_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255.0
    return colours * share + 255.0 * (1.0 - share)


# --- bitmaps ------------------------------------------------------------------------------------


def bitmap32(alpha: np.ndarray, *, bottom_up: bool = True) -> bytes:
    """A 32-bit bitmap with the header of version 5, whose fourth byte is alpha."""
    values = np.dstack([pixels(picture())[..., ::-1], alpha])
    body = (values[::-1] if bottom_up else values).astype(np.uint8).tobytes()
    height = HEIGHT if bottom_up else -HEIGHT
    header = struct.pack("<IiiHHIIiiII", 124, WIDTH, height, 1, 32, 3, len(body), 0, 0, 0, 0)
    header += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(64)
    return b"BM" + struct.pack("<IHHI", 14 + len(header) + len(body), 0, 0, 138) + header + body


@pytest.mark.parametrize("bottom_up", [True, False])
def test_a_bitmap_whose_alpha_is_zero_everywhere_is_opaque(bottom_up: bool) -> None:
    alpha = np.zeros((HEIGHT, WIDTH), np.uint8)
    assert np.array_equal(decoded(bitmap32(alpha, bottom_up=bottom_up)), pixels(picture()))


def test_a_bitmap_with_alpha_is_laid_on_white() -> None:
    alpha = np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8), (HEIGHT, 1))
    difference = decoded(bitmap32(alpha)) - on_white(pixels(picture()), alpha)
    assert np.abs(difference).max() <= 1


def test_a_bitmap_without_a_colour_table_of_the_usual_kind_is_read() -> None:
    # OS/2's first header has sides of 16 bits and palette entries of three bytes.
    header = struct.pack("<IHHHH", 12, 4, 2, 1, 8)
    palette = b"".join(bytes([value, 0, 255 - value]) for value in range(256))
    body = bytes([10, 20, 30, 40]) + bytes([50, 60, 70, 80])
    start = b"BM" + struct.pack("<IHHI", 14 + 12 + 768 + 8, 0, 0, 14 + 12 + 768)
    seen = decoded(start + header + palette + body)
    assert seen[1, 0].tolist() == [245, 0, 10]
    assert seen[0, 3].tolist() == [175, 0, 80]


# --- PNG ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_the_transparent_grey_of_a_png_turns_white(depth: int) -> None:
    top = (1 << depth) - 1
    transparent = top // 2
    levels = np.array([0, transparent, top, transparent] * 4, dtype=np.uint16)
    if depth == 16:
        row = levels.astype(">u2").tobytes()
    else:
        bits = np.unpackbits(levels.astype(np.uint8)[:, None], axis=1)[:, 8 - depth :]
        row = np.packbits(bits.reshape(-1)).tobytes()
    data = png(16, 1, depth, 0, b"\0" + row, png_chunk(b"tRNS", struct.pack(">H", transparent)))
    expected = np.where(levels == transparent, 255, np.rint(levels * 255.0 / top))
    assert np.abs(decoded(data)[0, :, 0] - expected).max() <= 1
    assert (decoded(data)[0, levels == transparent] == 255).all()


def test_the_transparent_colour_of_a_sixteen_bit_png_turns_white() -> None:
    colours = np.array([[[0x1234, 0x5678, 0x9ABC], [0x1234, 0x5678, 0x0000]]], dtype=">u2")
    chunk = png_chunk(b"tRNS", struct.pack(">HHH", 0x1234, 0x5678, 0x9ABC))
    seen = decoded(png(2, 1, 16, 2, b"\0" + colours.tobytes(), chunk))
    assert seen[0].tolist() == [[255, 255, 255], [0x12, 0x56, 0x00]]


def test_a_sixteen_bit_png_with_alpha_is_laid_on_white() -> None:
    rgba = np.dstack([pixels(picture()), np.full((HEIGHT, WIDTH), 128, np.uint8)])
    rows = b"".join(b"\0" + (row.astype(">u2") * 257).astype(">u2").tobytes() for row in rgba)
    difference = decoded(png(WIDTH, HEIGHT, 16, 6, rows)) - on_white(rgba[..., :3], rgba[..., 3])
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize(("depth", "kind"), [(8, 0), (16, 0), (1, 0), (8, 2), (8, 4), (8, 6)])
def test_a_png_whose_packed_pixels_end_early_is_refused(depth: int, kind: int) -> None:
    samples = {0: 1, 2: 3, 4: 2, 6: 4}[kind]
    row = b"\0" + b"\xff" * ((16 * depth * samples + 7) // 8)
    assert decoded(png(16, 16, depth, kind, row * 16)).shape == (16, 16, 3)
    refusal = refusal_of(png(16, 16, depth, kind, row * 12))
    assert refusal.code == 422
    assert "missing" in refusal.reason


def test_a_png_that_is_black_at_its_end_is_read() -> None:
    for options in ({}, {"transparency": 0}):
        black = Image.new("L", (16, 16))
        assert decoded(save(black, "PNG", **options)).shape == (16, 16, 3)
    interlaced = bytearray(png(1, 1, 8, 0, b"\0\0"))
    interlaced[28] = 1
    interlaced[29:33] = struct.pack(">I", zlib.crc32(interlaced[12:29]))
    assert decoded(bytes(interlaced)).shape == (1, 1, 3)


# --- GIF ----------------------------------------------------------------------------------------


def gif_on_canvas(width: int, height: int, left: int, top: int) -> bytes:
    """A GIF whose first frame covers only a part of its canvas."""
    data = bytearray(save(picture().quantize(16), "GIF"))
    frame = data.index(b",\0\0\0\0")
    data[6:10] = struct.pack("<HH", width, height)
    data[frame + 1 : frame + 5] = struct.pack("<HH", left, top)
    return bytes(data)


def test_the_canvas_around_the_first_frame_of_a_gif_is_white() -> None:
    seen = decoded(gif_on_canvas(100, 80, 20, 30))
    assert seen.shape == (80, 100, 3)
    frame = pixels(picture().quantize(16))
    assert np.array_equal(seen[30 : 30 + HEIGHT, 20 : 20 + WIDTH], frame)
    around = seen.copy()
    around[30 : 30 + HEIGHT, 20 : 20 + WIDTH] = 255
    assert (around == 255).all()


def test_a_frame_beyond_the_canvas_of_a_gif_is_read() -> None:
    seen = decoded(gif_on_canvas(10, 10, 0, 0))
    assert np.array_equal(seen[:HEIGHT, :WIDTH], pixels(picture().quantize(16)))


# --- TIFF ---------------------------------------------------------------------------------------

_ROWS, _COLUMNS = np.mgrid[0:18, 0:24]
# Photometric interpretation, samples, and what the samples beyond the colours are.
_LAYOUTS = (
    *((0, 1, ()), (1, 1, ()), (1, 2, (0,)), (1, 2, (1,)), (1, 2, (2,)), (2, 3, ())),
    *((2, 4, (0,)), (2, 4, (1,)), (2, 4, (2,)), (5, 4, ())),
)
# Bits and sample formats: unsigned integers, signed integers, floats.
_SAMPLES = ((8, 1), (16, 1), (32, 1), (8, 2), (32, 3), (64, 3))


def tiff_of(
    order: str,
    layout: tuple[int, int, tuple[int, ...]],
    sample: tuple[int, int],
    *,
    packed: bool,
    planes: bool,
) -> tuple[bytes, np.ndarray]:
    """A TIFF file and what it shows."""
    photometric, count, extra = layout
    bits, sample_format = sample
    values = np.stack([(_COLUMNS * 9 + _ROWS * 2 + 40 * k) % 256 for k in range(count)], axis=-1)
    if extra == (1,):  # colours that were multiplied with their alpha are never above it
        values[..., :-1] = values[..., :-1] * values[..., -1:] // 255
    kind = {1: "u", 2: "i", 3: "f"}[sample_format]
    factor = {8: 1.0, 16: 257.0, 32: 257.0, 64: 1.0}[bits] if sample_format != 3 else 1 / 255
    stored = (values * factor).astype(f"{order}{kind}{bits // 8}")
    parts = [stored[..., k].tobytes() for k in range(count)] if planes else [stored.tobytes()]
    tags = {256: (24,), 257: (18,), 258: (bits,) * count, 259: (8 if packed else 1,)}
    tags |= {262: (photometric,), 277: (count,), 278: (18,), 284: (2 if planes else 1,)}
    tags |= {339: (sample_format,) * count} | ({338: extra} if extra else {})
    data = tiff(tags, [zlib.compress(part) for part in parts] if packed else parts, order)
    colours = values.astype(float)
    grey = np.repeat(colours[..., :1], 3, axis=-1)
    inks = (255 - colours[..., :3]) * (255 - colours[..., 3:]) / 255 if photometric == 5 else grey
    shown = {0: 255 - grey, 1: grey, 2: colours[..., :3], 5: inks}[photometric]
    if extra == (1,):
        shown = shown + 255 - colours[..., -1:]
    elif extra == (2,):
        shown = on_white(shown, colours[..., -1])
    return data, shown


def answer_to(data: bytes) -> np.ndarray | ImageRefused:
    try:
        return decoded(data)
    except ImageRefused as refusal:
        return refusal


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
@pytest.mark.parametrize("order", ["<", ">"], ids=["little-endian", "big-endian"])
def test_a_tiff_is_shown_as_specified_or_refused_as_a_kind_that_is_not_read(
    order: str, packed: bool
) -> None:
    read = 0
    for layout, sample, planes in itertools.product(_LAYOUTS, _SAMPLES, [False, True]):
        if planes and layout[1] == 1:
            continue
        data, shown = tiff_of(order, layout, sample, packed=packed, planes=planes)
        answer = answer_to(data)
        if isinstance(answer, ImageRefused):
            assert answer.code == 415, (layout, sample, planes, answer.reason)
            assert "TIFF image of" in answer.reason
            assert f"{sample[0]}-bit" in answer.reason
        else:
            assert np.abs(answer - shown).max() <= 2, (layout, sample, planes)
            read += 1
    assert read >= (28 if packed else 18)


def test_a_float_tiff_that_is_not_read_is_called_a_float_tiff() -> None:
    data, _ = tiff_of("<", (1, 1, ()), (64, 3), packed=False, planes=False)
    assert "64-bit floats" in refusal_of(data).reason


def test_the_thumbnail_of_a_raw_file_is_not_taken_for_the_photo() -> None:
    values = np.asarray(picture()).tobytes()
    tags = {256: (WIDTH,), 257: (HEIGHT,), 258: (8, 8, 8), 259: (1,), 262: (2,), 277: (3,)}
    thumbnail = tiff(tags | {254: (1,), 278: (HEIGHT,)}, [values])
    negative = tiff(tags | {278: (HEIGHT,), 50706: (0x01040000,)}, [values])
    for data in (thumbnail, negative):
        refusal = refusal_of(data)
        assert refusal.code == 415
        assert "raw file" in refusal.reason


def test_strips_that_are_missing_from_a_tiff_refuse_it() -> None:
    values = pixels(noise(16, 16))
    tags = {256: (16,), 257: (16,), 258: (8, 8, 8), 259: (1,), 262: (2,), 277: (3,), 278: (4,)}
    strips = [values[top : top + 4].tobytes() for top in range(0, 16, 4)]
    assert np.array_equal(decoded(tiff(tags, strips)), values)
    assert refusal_of(tiff(tags, strips[:3])).code == 422
    packed = [zlib.compress(strip) for strip in strips]
    assert np.array_equal(decoded(tiff(tags | {259: (8,)}, packed)), values)
    assert refusal_of(tiff(tags | {259: (8,)}, packed[:3])).code == 422
    short = [*packed[:3], zlib.compress(strips[3][:60])]
    assert refusal_of(tiff(tags | {259: (8,)}, short)).code == 422
