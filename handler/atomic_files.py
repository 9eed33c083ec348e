"""Files that are there whole or not at all, whenever the process or the power goes."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Write to the path that is given; it takes the place of ``path`` when the block has ended.

    Nothing happens to ``path`` if the block raises. A killed process leaves a hidden file whose
    name ends in ``.partial`` and that nobody reads. Folders are made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())  # or the name could outlive the content
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
