"""Five hundred requests that nobody means well, the same ones every time.

Images of every format that Pillow writes, flipped, cut and spliced; pictures that are small as
files and enormous as pixels; files of one kind in the guise of another; JSON and forms made to cost
as much as they can. Each is a body and a content type.
"""

from __future__ import annotations

import base64
import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image

COUNT = 500
_RAW = "application/octet-stream"
_JSON = "application/json"
_LIGHT = ("PNG 8000 16-bit grey", "JPEG 8000", "BMP 8000")  # one near each limit


@dataclass(frozen=True)
class Hostile:
    """One request: what it is, its body and what it says of it."""

    name: str
    body: bytes
    kind: str = _RAW


def hostile_inputs(count: int = COUNT, *, heavy: bool = True) -> list[Hostile]:
    """So many of them: disguises and bombs, then as much fuzz as is wanted.

    Args:
        count: how many.
        heavy: with the bombs that take seconds to make and seconds to be looked at.
    """
    crafted = [*disguises(), *bombs(heavy=heavy), *documents(heavy=heavy), *forms()]
    fuzz = fuzzed()
    return [*crafted, *(next(fuzz) for _ in range(count - len(crafted)))][:count]


def pictures() -> dict[str, bytes]:
    """A small picture in every format and mode that this Pillow writes."""
    Image.init()
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((64, 48), Image.Resampling.BICUBIC)
    found = {}
    for name in sorted(Image.SAVE):
        for mode in ("RGB", "L", "P", "1", "RGBA", "CMYK", "I;16"):
            encoded = io.BytesIO()
            try:
                picture.convert(mode).save(encoded, name)
            except Exception:  # not every format holds every mode
                continue
            found[f"{name} {mode}"] = encoded.getvalue()
    return found


def fuzzed() -> Iterator[Hostile]:
    """Damaged pictures, without end: bytes flipped, the end cut off, two files spliced."""
    rng = random.Random(0)
    seeds = sorted(pictures().items())
    names = [name for name, _ in seeds]
    while True:
        for name, data in seeds:
            damaged = bytearray(data)
            for _ in range(rng.choice((1, 3, 30))):
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            yield Hostile(f"flipped {name}", bytes(damaged))
            yield Hostile(f"cut {name}", data[: rng.randrange(1, len(data))])
            other = rng.choice(names)
            tail = dict(seeds)[other]
            here, there = rng.randrange(len(data)), rng.randrange(len(tail))
            yield Hostile(f"spliced {name} and {other}", data[:here] + tail[there:])


def disguises() -> list[Hostile]:
    """What is no photo, or is a photo and something else."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.txt", "text")
    jpeg, gif = pictures()["JPEG RGB"], pictures()["GIF P"]
    page = b"<!doctype html><html><script>alert(1)</script></html>"
    drawing = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><rect/></svg>'
    laughs = b'<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;">]><svg>&c;</svg>'
    bodies = {
        "nothing": b"",
        "one byte": b"\xff",
        "zeros": bytes(100_000),
        "noise": random.Random(1).randbytes(100_000),
        "zip": packed.getvalue(),
        "web page": page,
        "drawing": drawing,
        "entities": laughs,
        "program": b"\x7fELF" + bytes(1000),
        "pickle": b"\x80\x04\x95cos\nsystem\n(S'true'\ntR.",
        "photo, then zip": jpeg + packed.getvalue(),
        "GIF and page": gif[:6] + page + gif[6:],
        "photo with a page inside": jpeg[:2]
        + b"\xff\xfe"
        + struct.pack(">H", 55)
        + page
        + jpeg[2:],
        "PDF before photo": b"%PDF-1.4\n" + jpeg,
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n",
        "start of JPEG": b"\xff\xd8\xff\xe0",
        "JPEG of markers": b"\xff\xd8" + b"\xff\xe1\x00\x02" * 100_000,
        "20 MB of nothing": bytes(20 * 1024 * 1024),
        "more than the limit": jpeg.ljust(20 * 1024 * 1024 + 1, b"\0"),
    }
    kinds = [_RAW, "image/jpeg", "text/html", "text/plain", "application/x-unknown; charset=none"]
    plain = [Hostile(name, body) for name, body in bodies.items()]
    return plain + [Hostile(f"page as {kind}", page, kind) for kind in kinds]


def bombs(*, heavy: bool = True) -> list[Hostile]:
    """Small files, large pictures: beyond the limit of pixels, and just within it."""
    made: dict[str, Callable[[], bytes]] = {}
    for side in (8000, 30_000, 65_000):
        made[f"PNG {side} grey"] = partial(png, side, side, kind=0)
    for name, kind, depth in (
        *(("RGB", 2, 8), ("RGBA", 6, 8), ("grey and alpha", 4, 8)),
        *(("16-bit grey", 0, 16), ("16-bit RGBA", 6, 16)),
    ):
        made[f"PNG 8000 {name}"] = partial(png, 8000, 8000, kind=kind, depth=depth)
    made["PNG 2147483647"] = lambda: png(2**31 - 1, 2**31 - 1, kind=0, rows=1)
    made["PNG thin"] = lambda: png(2_000_000, 30, kind=0)
    made["PNG high"] = lambda: png(1, 60_000_000, kind=0)
    made["PNG of texts"] = lambda: png(
        *(8, 8),
        kind=0,
        extra=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(90_000_000), 1)),
    )
    made["PNG with a colour profile"] = lambda: png(
        *(8, 8), kind=0, extra=chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(90_000_000), 1))
    )
    made["GIF canvas"] = lambda: b"GIF89a" + struct.pack("<HH", 65535, 65535) + bytes(3) + b"," * 30
    made["GIF canvas 8000"] = lambda: saved("GIF", "P", 8000)
    made["BMP header"] = lambda: bitmap(2**31 - 1, 2**31 - 1)
    made["BMP negative"] = lambda: bitmap(-5, -(2**31))
    made["BMP 8000"] = lambda: bitmap(8000, 8000)
    made["BMP runs"] = lambda: bitmap(8000, 8000, compression=1, pixels=b"\x01\x00" * 5_000_000)
    made["BMP jumps"] = lambda: bitmap(
        8000, 8000, compression=1, pixels=b"\0\x02\x01\0" * 4_000_000
    )
    made["WebP 16383"] = lambda: webp(16383, 16383)
    made["WebP 8000"] = lambda: saved("WEBP", "RGB", 8000)
    made["TIFF 8000 float"] = lambda: saved("TIFF", "F", 8000, compression="tiff_adobe_deflate")
    made["TIFF 8000 32-bit"] = lambda: saved("TIFF", "I", 8000, compression="tiff_adobe_deflate")
    made["TIFF 8000 CMYK"] = lambda: saved("TIFF", "CMYK", 8000, compression="tiff_adobe_deflate")
    made["TIFF that points at itself"] = lambda: b"II*\0\x08\0\0\0\0\0\x08\0\0\0"
    made["TIFF of 65535 entries"] = lambda: b"II*\0\x08\0\0\0\xff\xff" + bytes(range(12)) * 65535
    made["JPEG 8000"] = lambda: saved("JPEG", "RGB", 8000)
    made["JPEG 8000 CMYK"] = lambda: saved("JPEG", "CMYK", 8000)
    made["JPEG 65500"] = lambda: resized_jpeg(65500)
    made["JPEG of 3000 scans"] = lambda: many_scans(3000)
    made["PPM text"] = lambda: b"P3 2600 2600 255\n" + b"1 " * 10_000_000
    made["PPM of one number"] = lambda: b"P3 10 10 255\n" + b"1" * 20_000_000
    made["PPM deep"] = lambda: b"P6 1800 1800 1000\n" + bytes(1800 * 1800 * 6)
    made["PPM size"] = lambda: b"P5 99999999999 99999999999 255\n" + bytes(100)
    made["PPM comment"] = lambda: b"P5 #" + b"x" * 20_000_000
    light = [name for name in made if "8000" not in name or name in _LIGHT]
    return [Hostile(f"bomb: {name}", made[name]()) for name in (made if heavy else light)]


def documents(*, heavy: bool = True) -> list[Hostile]:
    """JSON that is deep, long, false or heavy."""
    photo = base64.b64encode(pictures()["JPEG RGB"]).decode()
    texts = {
        "cut": '{"image": "',
        "deep list": "[" * 10_000_000,
        "deep object": '{"image":' * 1_000_000,
        "deep but short": "[" * 990 + "]" * 990,
        "many empty": "[" + "{}," * 7_000_000 + "{}]",
        "many keys": json.dumps({str(number): 0 for number in range(500)}),
        "long number": '{"image": ' + "9" * 20_000_000 + "}",
        "long fraction": '{"image": 0.' + "9" * 20_000_000 + "}",
        "large exponent": '{"image": 1e999999999}',
        "escapes": '{"image": "' + "\\u0041" * 4_000_000 + '"}',
        "blank base64": '{"image": "' + "\\n" * 10_000_000 + '"}',
        "28 MB of base64": '{"image": "' + "A" * 28_000_000 + '"}',
        "not base64": '{"image": "' + "%" * 10_000_000 + '"}',
        "1000 images": json.dumps({"images": [""] * 1000}),
        "32 photos": json.dumps({"images": [photo] * 32, "explain": True}),
        "mixed": json.dumps({"images": [photo, 1, None, {}, [], "", "%", True]}),
        "surrogates": '{"image": "\\ud800"}',
        "same key": '{"image": "", "image": 5}',
        "NaN": '{"explain": NaN, "image": ""}',
        "null": "null",
        "UTF-16": "\ufeff{}",
    }
    if heavy:
        bomb = base64.b64encode(png(8000, 8000, kind=6)).decode()
        texts["18 bombs"] = json.dumps({"images": [bomb] * 18})
    bodies = {
        name: text.encode("utf-16" if name == "UTF-16" else "utf-8", "surrogatepass")
        for name, text in texts.items()
    }
    return [Hostile(f"JSON: {name}", body, _JSON) for name, body in bodies.items()]


def forms() -> list[Hostile]:
    """Forms that do not end, do not begin, or have too much in them."""
    photo = pictures()["JPEG RGB"]
    part = b'--x\r\nContent-Disposition: form-data; name="%d"; filename="a"\r\n\r\n%s\r\n'
    kind = "multipart/form-data; boundary=x"
    bodies = {
        "without end": part % (0, photo),
        "cut in a header": b"--x\r\nContent-Dispos",
        "without parts": b"--x--\r\n",
        "empty": b"",
        "of 40 files": b"".join(part % (i, photo) for i in range(40)) + b"--x--\r\n",
        "of 5000 parts": b"".join(part % (i, b"") for i in range(5000)) + b"--x--\r\n",
        "of a file twice": part % (0, photo * 3) + part % (0, photo * 3) + b"--x--\r\n",
        "with a strange name": (part % (0, photo)).replace(b'"0"', b'"\xff\x00../../etc"')
        + b"--x--\r\n",
    }
    made = [Hostile(f"form {name}", body, kind) for name, body in bodies.items()]
    return [
        *made,
        Hostile("form without boundary", part % (0, photo), "multipart/form-data"),
        Hostile("form in words", b"image=" + photo, "application/x-www-form-urlencoded"),
    ]


def png(
    width: int,
    height: int,
    *,
    kind: int,
    depth: int = 8,
    rows: int | None = None,
    extra: bytes = b"",
) -> bytes:
    """An image of zeros; of ``rows`` rows if not of all."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[kind]
    row = 1 + min(width, 2_000_000) * channels * depth // 8
    size = min(row * (height if rows is None else rows), 600_000_000)
    packer = zlib.compressobj(1)
    zeros = bytes(1 << 20)
    data = b"".join(packer.compress(zeros) for _ in range(size >> 20))
    data += packer.compress(zeros[: size % (1 << 20)]) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", bytes(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def chunk(name: bytes, data: bytes) -> bytes:
    """A piece of a PNG file."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def saved(file_format: str, mode: str, side: int, **options: object) -> bytes:
    """A square picture of one colour."""
    encoded = io.BytesIO()
    Image.new(mode, (side, side)).save(encoded, file_format, **options)
    return encoded.getvalue()


def bitmap(width: int, height: int, *, compression: int = 0, pixels: bytes = b"") -> bytes:
    """A Windows bitmap of 8 bits a pixel."""
    head = struct.pack(
        "<IiiHHIIiiII", 40, width, height, 1, 8, compression, len(pixels), 0, 0, 256, 0
    )
    start = 14 + len(head) + 1024
    return (
        b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + head + bytes(1024) + pixels
    )


def webp(width: int, height: int) -> bytes:
    """The header of a WebP animation, and nothing after it."""
    canvas = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    extended = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + canvas
    animation = b"ANIM" + struct.pack("<I", 6) + bytes(6)
    body = b"WEBP" + extended + animation
    return b"RIFF" + struct.pack("<I", len(body)) + body


def resized_jpeg(side: int) -> bytes:
    """A small JPEG whose header says that it is large."""
    data = bytearray(pictures()["JPEG RGB"])
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", side, side)
    return bytes(data)


def many_scans(count: int) -> bytes:
    """A progressive JPEG of many pixels that goes over them again and again."""
    encoded = io.BytesIO()
    Image.new("L", (7000, 7000), 128).save(encoded, "JPEG", progressive=True, quality=5)
    data = encoded.getvalue()
    last = data.rindex(b"\xff\xda")
    again = data[last:-2]
    return data[:-2] + again * min(count, (19_000_000 - len(data)) // len(again)) + b"\xff\xd9"
