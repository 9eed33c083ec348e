"""Any bytes in: a picture or a refusal, in bounded time and memory."""

from __future__ import annotations

import time
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from image_files import (
    AVIF,
    HEIGHT,
    ORIENTATION,
    WIDTH,
    answer_to,
    picture,
    progressive_with_scans,
    save,
)
from PIL import Image

from handler.images import ImageRefused, decode, pixels_of


@cache
def samples() -> dict[str, bytes]:
    """One small valid file of each kind."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
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
