"""Thousands of different photos, cut at random from the few that come with the program."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image

from handler.values.limits import SUFFIXES
from vea.demo.embedded_s3 import S3Server

PHOTOS = Path(__file__).parents[2] / "vea" / "photos"
BUCKET = "photos"
_BROKEN_EVERY, _DAMAGED, _MISSING = 50, 7, 11


def many_photos(count: int, *, side: int = 320, seed: int = 1) -> Iterator[bytes]:
    """JPEGs of at most ``side`` pixels; the same for the same seed, each unlike the others."""
    dice = random.Random(seed)
    whole = []
    for path in sorted(PHOTOS.iterdir()):
        if path.suffix in SUFFIXES and path.stem != "broken":
            with Image.open(path) as opened:
                whole.append(opened.convert("RGB"))
    for _ in range(count):
        photo = dice.choice(whole)
        share = dice.uniform(0.5, 1.0)
        width, height = int(photo.width * share), int(photo.height * share)
        left, top = dice.randint(0, photo.width - width), dice.randint(0, photo.height - height)
        cut = photo.crop((left, top, left + width, top + height))
        cut.thumbnail((side, side))
        file = io.BytesIO()
        cut.save(file, "JPEG", quality=dice.randint(75, 92))
        yield file.getvalue()


def is_damaged(number: int) -> bool:
    """Whether `upload` cuts the photo of this number off."""
    return number % _BROKEN_EVERY == _DAMAGED


def is_missing(number: int) -> bool:
    """Whether `upload` leaves the photo of this number out."""
    return number % _BROKEN_EVERY == _MISSING


def upload(server: S3Server, photos: Iterator[bytes]) -> list[str]:
    """Put photos into the bucket, some of them cut off and some missing; gives their list."""
    client = server.client()

    def put(item: tuple[int, bytes]) -> str:
        number, data = item
        key = f"night/{number:06d}.jpg"
        if is_damaged(number):
            data = data[: len(data) // 2]
        if not is_missing(number):
            client.put_object(Bucket=BUCKET, Key=key, Body=data)
        return f"s3://{BUCKET}/{key}"

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(put, enumerate(photos)))


def data_files(client: Any, bucket: str, prefix: str) -> dict[str, bytes]:
    """Content of the result files right under a prefix, by name."""
    found = client.list_objects_v2(Bucket=bucket, Prefix=prefix, Delimiter="/")
    names = [item["Key"] for item in found.get("Contents", ())]
    return {
        name.removeprefix(prefix): client.get_object(Bucket=bucket, Key=name)["Body"].read()
        for name in names
        if name.endswith(".parquet")
    }
