"""The page's files and the sample photos, read once and served from memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

from starlette.requests import Request
from starlette.responses import Response

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "jpg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
}
# In the page's order; the last one is there to be refused.
SAMPLES = (
    *("astronaut.jpg", "cat.webp", "flower.jpg", "palace.jpg", "clock.jpg", "coffee.jpg"),
    *("rocket.jpg", "cameraman.png", "grace_hopper.jpg", "broken.jpg"),
)


@dataclass(frozen=True)
class Asset:
    """A file.

    Attributes:
        content: Content of the file.
        media_type: Media type of the file.
        tag: Hash of the content, which browsers send to revalidate their copy.
    """

    content: bytes
    media_type: str
    tag: str

    def response(self, request: Request) -> Response:
        """The file, or 304 for a browser that has it."""
        headers = {"ETag": f'"{self.tag}"', "Cache-Control": "no-cache"}
        if f'"{self.tag}"' in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(self.content, media_type=self.media_type, headers=headers)


@dataclass(frozen=True)
class Assets:
    """What the page consists of.

    Attributes:
        page: HTML document.
        parts: Other files of the page, by name.
        samples: Sample photos, by name.
    """

    page: Asset
    parts: dict[str, Asset]
    samples: dict[str, Asset]

    @classmethod
    def load(cls) -> Assets:
        """Read the installed files."""
        package = resources.files("vea")
        folder = package.joinpath("web", "page")
        names = sorted(item.name for item in folder.iterdir() if not item.name.startswith("."))
        files = {name: _read(folder.joinpath(name)) for name in names}
        page = files.pop("index.html")
        photos = package.joinpath("photos")
        return cls(page, files, {name: _read(photos.joinpath(name)) for name in SAMPLES})


def _read(file: Traversable) -> Asset:
    content = file.read_bytes()
    media_type = _TYPES[file.name.rpartition(".")[2]]
    return Asset(content, media_type, hashlib.sha256(content).hexdigest()[:20])
