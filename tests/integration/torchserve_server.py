"""What the serving tests share: the shipped archive, pictures, forms, requests all at once."""

from __future__ import annotations

import base64
import io
import json
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.shipped import ARCHIVE, REPOSITORY
from train.package import package
from vea.serving.server import TorchServe

PHOTOS = REPOSITORY.parent / "shared" / "data" / "photos.tar.gz"


def shipped_archive() -> Path:
    """The archive that the project ships; skips where it was not checked out."""
    if not ARCHIVE.is_file():
        pytest.skip(f"the shipped archive {ARCHIVE.name} is not in model_store")
    return ARCHIVE


def todays_archive(folder: Path) -> Path:
    """The shipped model with today's code, in ``folder``."""
    return package(shipped_archive(), folder, name="vea-lite", version="1.0", card={})


def json_request(document: Any) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a JSON document, in which images are bytes."""
    text = json.dumps(document, default=lambda image: base64.b64encode(image).decode())
    return text.encode(), {"Content-Type": "application/json"}


def real_photos(count: int) -> list[bytes]:
    """JPEG files of photographs; skips where there are none."""
    if not PHOTOS.is_file():
        pytest.skip("no photos.tar.gz in shared/data beside the checkout")
    photos: list[bytes] = []
    with tarfile.open(PHOTOS) as packed:
        for member in packed:
            content = packed.extractfile(member) if member.name.endswith(".jpg") else None
            if content is not None:
                photos.append(content.read())
            if len(photos) == count:
                break
    return photos


def drawn_images(count: int) -> list[bytes]:
    """Smooth pictures of several sizes, formats and modes."""
    kinds = [("JPEG", "RGB"), ("PNG", "RGBA"), ("WEBP", "RGB"), ("PNG", "L"), ("GIF", "P")]
    images = []
    for seed in range(count):
        chooser = np.random.default_rng(seed)
        coarse = Image.fromarray(chooser.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        size = (int(chooser.integers(90, 500)), int(chooser.integers(90, 500)))
        file_format, mode = kinds[seed % len(kinds)]
        image = coarse.resize(size, Image.Resampling.BICUBIC).convert(mode)
        encoded = io.BytesIO()
        image.save(encoded, file_format)
        images.append(encoded.getvalue())
    return images


def ask(
    server: TorchServe, body: bytes | None, headers: Mapping[str, str] | None = None
) -> tuple[int, Any]:
    """One POST with any body and headers, with the server's key unless ``headers`` has one."""
    sent = {"Content-Type": "application/octet-stream", **(headers or {})}
    return server.client.ask("POST", server.client.path, body=body, headers=sent, timeout=60.0)


def form(parts: Sequence[tuple[str, bytes]]) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a multipart form of files."""
    boundary = "a-boundary-that-no-image-holds"
    lines = []
    for name, content in parts:
        disposition = f'form-data; name="{name}"; filename="{name}.jpg"'
        head = f"--{boundary}\r\nContent-Disposition: {disposition}\r\n"
        lines.append(f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + content + b"\r\n")
    body = b"".join(lines) + f"--{boundary}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def all_at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Results of the calls, which all start in the same moment."""
    together = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        together.wait(timeout=30)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def with_other_file(archive: Path, target: Path, *, name: str, content: str) -> Path:
    """A copy of ``archive`` in which one file has another content."""
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(target, "w") as changed:
        for entry in source.namelist():
            changed.writestr(entry, content if entry == name else source.read(entry))
    return target


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Look again and again until it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
