"""Finds the runs below a folder, finished or not."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from handler.values.errors import VeaError
from jobs.storage.s3 import S3
from jobs.values.layout import FAILED_RUN, IDENTITY, JOURNAL, MANIFEST, SUCCESS
from jobs.values.locations import S3Location, is_on_s3

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


def find_runs(root: str, s3: S3) -> list[FoundRun]:
    """The runs in a folder and everywhere below it, in the order of their locations.

    Args:
        root: Local path, or ``s3://bucket/prefix``.
        s3: S3 client, used if the folder is on S3.

    Raises:
        VeaError: A local folder does not exist or cannot be listed, or the location is invalid.
        StorageError: S3 does not list the prefix.
    """
    marks = defaultdict[str, set[str]](set)
    for path in _on_s3(root, s3) if is_on_s3(root) else _local(root):
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


def _on_s3(root: str, s3: S3) -> Iterator[str]:
    try:
        place = S3Location.parse(root.rstrip("/") + "/")
    except ValueError as error:
        raise VeaError(str(error)) from None
    for key in s3.walk(place):
        yield str(S3Location(place.bucket, key))


def _local(root: str) -> Iterator[str]:
    if not Path(root).is_dir():
        raise VeaError(f"there is no folder {root}")

    def refuse(error: OSError) -> None:
        # A folder that is passed over in silence would be rows that stay in silence.
        raise VeaError(f"the folder {error.filename} cannot be listed: {error.strerror}")

    for folder, _, names in os.walk(root, onerror=refuse):
        for name in names:
            yield f"{folder}/{name}"
