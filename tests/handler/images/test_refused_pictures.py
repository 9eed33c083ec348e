"""What is no picture, is damaged or is too large is refused, with a status and a reason."""

from __future__ import annotations

import io
import resource
import time
import zipfile
from collections.abc import Callable

import numpy as np
import pytest
from image_files import HEIGHT, WIDTH, answer_to, noise, picture, png, refusal_of, save

from handler.images import ImageRefused, decode
from handler.values.limits import ImageLimits


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
