"""Chunks of a list, and the identity of a run.

A chunk is a range of positions in the list. Its id depends on the list and the chunk size only, so
a chunk is always written to the same part. A run is identified by the content of the list, the
digest of the model and every setting that changes results. A second attempt of the same run
therefore writes the same parts with the same rows, and can skip those that exist.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from handler.values.runtimes import TORCH
from jobs.values.inside import Inside

DEFAULT_SIZE = 1_000
_PREFIX = "part-"


@dataclass(frozen=True)
class Entry:
    """One row of a list.

    Attributes:
        image: Image as the list spells it; ``""`` if the row names none.
        extra: Values of the columns that pass through, in the list's order of them.
        inside: Place of the picture inside a file with others; None if ``image`` is the location of
            an object or a file of its own.
    """

    image: str
    extra: tuple[Any, ...] = ()
    inside: Inside | None = None


@dataclass(frozen=True)
class Chunk:
    """Images that are scored together and written as one part.

    Attributes:
        index: Index of the chunk in the list, from 0.
        start: Position of its first image in the list, from 0.
        entries: Rows of the list.
    """

    index: int
    start: int
    entries: tuple[Entry, ...]

    @property
    def id(self) -> str:
        """``part-00042`` for the chunk with index 42; sorts by index up to 100,000 chunks."""
        return f"{_PREFIX}{self.index:05d}"

    @property
    def positions(self) -> range:
        """Positions of its images in the list."""
        return range(self.start, self.start + len(self.entries))


def split(entries: Iterable[Entry], size: int = DEFAULT_SIZE) -> Iterator[Chunk]:
    """Cut a list into chunks of ``size`` images, the last one shorter; one is held at a time.

    Raises:
        ValueError: ``size`` is not positive.
    """
    if size < 1:
        raise ValueError(f"a chunk of {size} images: expected at least 1")
    rest = iter(entries)
    index = 0
    while taken := tuple(islice(rest, size)):
        yield Chunk(index, index * size, taken)
        index += 1


def cut(positions: range, size: int) -> Iterator[range]:
    """Ranges of ``size`` positions, the last one shorter."""
    for start in range(0, len(positions), size):
        yield positions[start : start + size]


SETTINGS_IN_WORDS = {
    "list_sha256": "the list of images",
    "list_folder": "the folder of the list",
    "column": "--column",
    "keep": "the columns taken over from the list (--keep)",
    "types": "the types of these columns (--schema)",
    "model_digest": "the model",
    "runtime": "--runtime",
    "faces": "--faces",
    "chunk_size": "--chunk-size",
    "max_bytes": "the limit of bytes",
    "max_pixels": "the limit of pixels",
    "boxes": "--boxes",
    "embeddings": "--embeddings",
    "columns": "--columns",
    "hosts": "--allow-host",
    "format": "the format of the parts",
    "content_hash": "--content-hash",
    "once": "--once",
    "since": "--since, or what it found,",
}
"""How people are told that a setting of `RunIdentity` differs."""


@dataclass(frozen=True)
class RunIdentity:
    """Everything that decides what a run's rows say, and nothing else.

    How many threads fetch, or where the list is kept, is not part of it. The device is not either:
    processors differ in the last digits of a probability, which is no reason to score a million
    images again. The runtime is: a compiled form in 8 bits calls some photos another emotion.

    Attributes:
        list_sha256: SHA-256 of the list's bytes.
        list_folder: Folder that the list's relative images are relative to; None if it has none.
        column: Column that names the image; None for a text list.
        keep: Columns that pass through, in their order.
        model_digest: Digest of the archive.
        chunk_size: Number of images in a part.
        max_bytes: Size limit of an encoded image, in bytes.
        max_pixels: Size limit of a picture, in pixels.
        boxes: Whether rows hold the boxes of objects.
        hosts: Hosts that images may be fetched from over HTTPS.
        runtime: Runtime of the backbones, ``"torch"`` or ``"onnx"``.
        faces: Whether faces are looked for.
        embeddings: Whether rows hold the network's fused feature.
        columns: Columns of the files and their order; None for the usual ones.
        types: Types of these columns where they were declared and the list alone has others.
        format: Version of the parts' format; grows when their columns change.
        content_hash: Whether rows have the digest of the image's bytes.
        once: Whether an image that is listed more than once is scored once.
        since: Digest of the earlier runs whose answers are copied; None without them.
    """

    list_sha256: str
    list_folder: str | None
    column: str | None
    keep: tuple[str, ...]
    model_digest: str
    chunk_size: int
    max_bytes: int
    max_pixels: int
    boxes: bool
    hosts: tuple[str, ...]
    format: int = 2
    runtime: str = TORCH
    faces: bool = True
    embeddings: bool = False
    columns: tuple[str, ...] | None = None
    types: tuple[str, ...] | None = None
    content_hash: bool = False
    once: bool = False
    since: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        values = asdict(self)
        if self.runtime == TORCH:  # as runs were identified when there was no other
            del values["runtime"]
        if self.faces:
            del values["faces"]
        if not self.embeddings:
            del values["embeddings"]
        if self.columns is None:
            del values["columns"]
        if self.types is None:
            del values["types"]
        for name in ("content_hash", "once", "since"):  # not there in earlier identities
            if not values[name]:
                del values[name]
        # JSON has no tuples; as lists the values equal those that are read back.
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @property
    def run_id(self) -> str:
        """Sixteen hex digits of the SHA-256 of all fields."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]
