"""Files that are complete or absent, whenever the process ends or the power fails."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` when the block ends.

    ``path`` is unchanged if the block raises. A killed process leaves a hidden file whose name ends
    in ``.partial`` and that nothing reads. Missing folders are created.
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


def probe_folder(folder: Path) -> None:
    """Check that a folder, which need not exist, can be written; nothing is left behind.

    Raises:
        OSError: The folder can be neither written nor created.
    """
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    finally:
        for place in missing:
            with suppress(OSError):  # it was not made, or somebody else uses it by now
                place.rmdir()
