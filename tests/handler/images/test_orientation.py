"""Which way up: one reader of EXIF, whatever decodes the picture and whatever stands around it."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import (
    HEIGHT,
    WIDTH,
    decoded,
    exif_block,
    multi_picture_segment,
    picture,
    png_chunk,
    save,
    segment,
    tiff,
    with_segments,
)
from PIL import Image

XMP = segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(60))
XMP_TURNED = segment(
    0xE1, b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="3" xmlns:tiff="t"/>'
)
THERMAL = segment(0xE1, b"FLIR\0\1\0\0" + bytes(40))
COMMENT = segment(0xFE, b"Exif\0\0 in a comment")
MAKERS = (XMP, XMP_TURNED, THERMAL, COMMENT, segment(0xED, b"Photoshop 3.0\0"))


def turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """A stored picture as EXIF 2.32 says that it is shown: where its row 0 and column 0 are."""
    steps = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: a[::-1].swapaxes(0, 1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: a[:, ::-1].swapaxes(0, 1),
    }
    return steps[orientation](values)


def jpeg_of(mode: str) -> bytes:
    return save(picture().convert(mode), "JPEG", quality=95)


@settings(max_examples=150, deadline=None)
@given(
    mode=st.sampled_from(["RGB", "L", "CMYK"]),
    orientation=st.integers(1, 8),
    order=st.sampled_from("<>"),
    layout=st.sampled_from("BHIbhi"),
    entries_before=st.integers(0, 3),
    before=st.lists(st.sampled_from(MAKERS), max_size=3),
    behind=st.lists(st.sampled_from(MAKERS), max_size=3),
    stereo=st.booleans(),
)
def test_a_jpeg_is_turned_whatever_its_segments_and_its_exif_look_like(
    mode: str,
    orientation: int,
    order: str,
    layout: str,
    entries_before: int,
    before: list[bytes],
    behind: list[bytes],
    stereo: bool,
) -> None:
    plain = jpeg_of(mode)
    block = exif_block(orientation, order, layout, entries_before)
    exif = segment(0xE1, b"Exif\0\0" + block)
    more = [multi_picture_segment()] if stereo else []
    data = with_segments(plain, *before, exif, *behind, *more)
    assert np.array_equal(decoded(data), turned(decoded(plain), orientation))


@settings(max_examples=60, deadline=None)
@given(
    file_format=st.sampled_from(["PNG", "WEBP", "TIFF"]),
    orientation=st.integers(1, 8),
    order=st.sampled_from("<>"),
    layout=st.sampled_from("BHIbhi"),
)
def test_other_formats_are_turned_by_the_same_reader(
    file_format: str, orientation: int, order: str, layout: str
) -> None:
    block = exif_block(orientation, order, layout)
    if file_format == "PNG":
        plain = save(picture(), "PNG")
        data = plain[:33] + png_chunk(b"eXIf", block) + plain[33:]
    elif file_format == "WEBP":
        data = save(picture(), "WEBP", lossless=True, exif=block)
    else:
        values = np.asarray(picture())
        sizes = {256: (WIDTH,), 257: (HEIGHT,), 258: (8, 8, 8), 259: (1,), 262: (2,)}
        tags = sizes | {274: (orientation,), 277: (3,), 278: (HEIGHT,)}
        data = tiff(tags, [values.tobytes()], order)
    assert np.array_equal(decoded(data), turned(np.asarray(picture()), orientation))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", [b"exif", b"APP1"])
def test_the_exif_data_that_imagemagick_keeps_in_texts_turn_a_png(
    kind: bytes, packed: bool
) -> None:
    block = b"Exif\0\0" + exif_block(6)
    text = b"\n" + kind + b"\n%8d\n" % len(block) + block.hex().encode() + b"\n"
    name = b"Raw profile type " + kind + b"\0"
    chunk = (
        png_chunk(b"zTXt", name + b"\0" + zlib.compress(text))
        if packed
        else png_chunk(b"tEXt", name + text)
    )
    plain = save(picture(), "PNG")
    assert np.array_equal(
        decoded(plain[:33] + chunk + plain[33:]), turned(np.asarray(picture()), 6)
    )
    for damaged in (text[:30], b"", b"?" * 90):
        chunk = png_chunk(b"tEXt", name + damaged)
        assert np.array_equal(decoded(plain[:33] + chunk + plain[33:]), np.asarray(picture()))


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_an_orientation_in_xmp_alone_turns_no_format(file_format: str) -> None:
    xmp = b'<x:xmpmeta xmlns:tiff="t"><rdf tiff:Orientation="6"/></x:xmpmeta>'
    if file_format == "PNG":
        plain = save(picture(), "PNG")
        text = png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
        data = plain[:33] + text + plain[33:]
    elif file_format == "TIFF":
        data = save(picture(), "TIFF", tiffinfo={700: xmp})
    else:
        data = save(picture(), file_format, xmp=xmp)
    assert xmp in data
    assert decoded(data).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_out_of_range_leaves_the_next_block_to_decide(value: int) -> None:
    plain = jpeg_of("RGB")
    first = segment(0xE1, b"Exif\0\0" + exif_block(value))
    second = segment(0xE1, b"Exif\0\0" + exif_block(6))
    data = with_segments(plain, first, second)
    assert np.array_equal(decoded(data), turned(decoded(plain), 6))


def test_a_block_that_is_cut_off_behind_its_orientation_still_turns() -> None:
    plain = save(picture(), "WEBP", lossless=True, exif=exif_block(6))
    assert decoded(plain[:-3]).shape == (WIDTH, HEIGHT, 3)


def test_exif_that_makes_no_sense_turns_nothing() -> None:
    plain = jpeg_of("RGB")
    for block in (b"", b"II", b"\xff" * 40, b"II*\0" + b"\xff" * 4, b"MM\0*\0\0\0\x08\xff\xff"):
        data = with_segments(plain, segment(0xE1, b"Exif\0\0" + block))
        assert np.array_equal(decoded(data), decoded(plain))


def test_a_picture_that_was_turned_is_the_same_on_every_path() -> None:
    stored = Image.fromarray(turned(np.asarray(picture()), 8).copy())  # 6 undoes 8
    data = save(stored, "JPEG", quality=100, subsampling=0, exif=b"Exif\0\0" + exif_block(6))
    assert np.abs(decoded(data).astype(int) - np.asarray(picture())).max() <= 4
