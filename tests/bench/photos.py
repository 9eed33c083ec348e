"""The photos that a benchmark scores: a folder's, or those that come with the program."""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from PIL import Image

from handler.values.limits import SUFFIXES
from tests.shipped import REPOSITORY
from vea.demo.embedded_s3 import S3Server

BUNDLED = REPOSITORY / "vea" / "photos"
BUCKET, RESULTS = "photos", "results"
_BROKEN = "broken"
_GRAIN = 4.0  # standard deviation of the noise of enlarged photos, of 255


def photos_of(folder: Path, count: int) -> list[bytes]:
    """Encoded photos of a folder, in the order of their names, repeated up to ``count``.

    Raises:
        SystemExit: The folder holds no photo.
    """
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.stem != _BROKEN
    )
    if not files:
        raise SystemExit(f"there are no photos in {folder}")
    known = [path.read_bytes() for path in files[:count]]
    return list(islice(cycle(known), count))


def write_enlarged(folder: Path, target: Path, count: int) -> None:
    """Write photos of 1 to 12 megapixels, made from those of a folder, as `of_megapixels` does.

    Args:
        folder: Folder of the photos.
        target: Folder to write to.
        count: Number of photos to write.
    """
    sizes = np.random.default_rng(1).uniform(1, 12, count)
    for number, (photo, size) in enumerate(zip(photos_of(folder, count), sizes, strict=True)):
        (target / f"{number:04d}.jpg").write_bytes(of_megapixels(photo, float(size)))


def of_megapixels(photo: bytes, megapixels: float) -> bytes:
    """A JPEG of a photo at another size.

    Enlarging makes a smooth picture, which is cheaper to decode than a camera's. Noise like that of
    a sensor brings the size of the file back to what cameras write.
    """
    with Image.open(io.BytesIO(photo)) as opened:
        image = opened.convert("RGB")
    scale = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
    size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
    pixels = np.asarray(image.resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
    grain = np.random.default_rng(0).standard_normal(pixels.shape, dtype=np.float32) * _GRAIN
    encoded = io.BytesIO()
    noisy = np.clip(pixels + grain, 0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(encoded, "JPEG", quality=85)
    return encoded.getvalue()


def upload(server: S3Server, photos: Sequence[bytes], *, lists: Sequence[int]) -> dict[int, str]:
    """Put photos into the bucket, each under a name of its own, and lists of the first of them.

    Args:
        server: S3 server with the bucket `BUCKET`.
        photos: Encoded photos.
        lists: Lengths of the lists to write.

    Returns:
        Location of the list of each length.
    """
    client = server.client()
    keys = [f"photos/{number:06d}.jpg" for number in range(len(photos))]

    def put(item: tuple[str, bytes]) -> None:
        client.put_object(Bucket=BUCKET, Key=item[0], Body=item[1])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, zip(keys, photos, strict=True)))
    locations = {}
    for length in lists:
        lines = "\n".join(f"s3://{BUCKET}/{key}" for key in keys[:length])
        client.put_object(Bucket=BUCKET, Key=f"list-{length}.txt", Body=lines.encode())
        locations[length] = f"s3://{BUCKET}/list-{length}.txt"
    return locations
