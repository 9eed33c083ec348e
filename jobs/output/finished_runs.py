"""Finds the runs below a folder, finished or not."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from handler.values.errors import VeaError
from jobs.storage.stores import Stores
from jobs.values.layout import FAILED_RUN, IDENTITY, JOURNAL, MANIFEST, SUCCESS
from jobs.values.locations import ObjectLocation, is_in_store

_MARKS = (FAILED_RUN, IDENTITY, JOURNAL, MANIFEST, SUCCESS)


@dataclass(frozen=True)
class FoundRun:
    """A folder that `vea score` has written to.

    Attributes:
        location: Location of the folder, a path or ``s3://bucket/prefix``.
        finished: Whether the run is finished; otherwise it is being written, or was interrupted.
        failed: Whether the run ended with too many failures, and may be replaced.
        erasing: Whether rows are being removed, or the removal was interrupted.
    """

    location: str
    finished: bool
    failed: bool = False
    erasing: bool = False


def find_runs(root: str, stores: Stores) -> list[FoundRun]:
    """The runs in a folder and everywhere below it, in the order of their locations.

    Args:
        root: Local path, or ``s3://bucket/prefix``.
        stores: Clients of the object stores.

    Raises:
        VeaError: A local folder does not exist or cannot be listed, or the location is invalid.
        StorageError: S3 does not list the prefix.
    """
    marks = defaultdict[str, set[str]](set)
    for path in _in_store(root, stores) if is_in_store(root) else _local(root):
        for mark in _MARKS:
            if path.endswith(f"/{mark}"):
                marks[path.removesuffix(f"/{mark}")].add(mark)
    return [
        FoundRun(
            location,
            finished={MANIFEST, SUCCESS} <= there,
            failed=FAILED_RUN in there,
            erasing=JOURNAL in there,
        )
        for location, there in sorted(marks.items())
    ]


def _in_store(root: str, stores: Stores) -> Iterator[str]:
    try:
        place = ObjectLocation.parse(root.rstrip("/") + "/")
    except ValueError as error:
        raise VeaError(str(error)) from None
    for key in stores.walk(place):
        yield str(replace(place, key=key))


def _local(root: str) -> Iterator[str]:
    if not Path(root).is_dir():
        raise VeaError(f"there is no folder {root}")

    def refuse(error: OSError) -> None:
        # A folder that is passed over in silence would be rows that stay in silence.
        raise VeaError(f"the folder {error.filename} cannot be listed: {error.strerror}")

    for folder, _, names in os.walk(root, onerror=refuse):
        for name in names:
            yield f"{folder}/{name}"
