"""Chunks of a list, and what makes two runs the same run.

A chunk is a stretch of positions in the list, so its id follows from the list and the chunk size
alone and each chunk always lands in the same part. A run is identified by the content of the
list, the digest of the model and every setting that changes results. Whoever starts the same run
again therefore writes the same parts with the same rows, and may skip those that exist.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

DEFAULT_SIZE = 1_000
_PREFIX = "part-"


@dataclass(frozen=True)
class Chunk:
    """Images that are scored together and written as one part.

    Attributes:
        index: of the chunk in the list, from 0.
        start: position of its first image in the list, from 0.
        images: as the list spells them.
    """

    index: int
    start: int
    images: tuple[str, ...]

    @property
    def id(self) -> str:
        """``part-00042`` for the chunk with index 42; sorts by index up to 100,000 chunks."""
        return f"{_PREFIX}{self.index:05d}"


def split(images: Iterable[str], size: int = DEFAULT_SIZE) -> Iterator[Chunk]:
    """Cut a list into chunks of ``size`` images, the last one shorter; one is held at a time.

    Raises:
        ValueError: ``size`` is not positive.
    """
    if size < 1:
        raise ValueError(f"a chunk of {size} images: expected at least 1")
    rest = iter(images)
    index = 0
    while taken := tuple(islice(rest, size)):
        yield Chunk(index, index * size, taken)
        index += 1


@dataclass(frozen=True)
class RunIdentity:
    """Everything that decides what a run's rows say, and nothing else.

    How many threads fetch, or where the list is kept, is not part of it. The device is not either:
    processors differ in the last digits of a probability, which is no reason to score a million
    images again.

    Attributes:
        list_sha256: of the list's bytes.
        list_folder: what the list's relative images are relative to; None if it has none.
        column: of the images in a CSV list; None for a text list.
        model_digest: of the archive.
        chunk_size: images in a part.
        max_bytes: largest encoded image that is accepted.
        max_pixels: largest picture that is accepted.
        format: of the parts; grows when their columns change.
    """

    list_sha256: str
    list_folder: str | None
    column: str | None
    model_digest: str
    chunk_size: int
    max_bytes: int
    max_pixels: int
    format: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @property
    def run_id(self) -> str:
        """Sixteen hex digits of the SHA-256 of all fields."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]
