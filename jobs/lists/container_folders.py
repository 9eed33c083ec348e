"""Folders of archives or of parquet files, which are one list, and not folders of photos."""

from __future__ import annotations

import os
from collections import Counter

from handler.photo_folders import photos_below, reason_to_leave_out
from jobs.lists.tar_list import is_tar
from jobs.storage.s3 import S3
from jobs.values.locations import S3Location, is_on_s3


def containers_in(folder: str, s3: S3) -> list[str]:
    """Names of the files right in a folder that hold pictures, in their order.

    These are its archives, or else its parquet files: img2dataset leaves a table without pictures
    beside each archive. A folder with a photo in it, however deep, is a folder of photos.

    Args:
        folder: Path or ``s3://bucket/prefix``, without a slash at the end.
        s3: S3 client.

    Raises:
        StorageError: S3 does not list it.
    """
    names = _on_s3(folder, s3) if is_on_s3(folder) else _local(folder)
    shown = [name for name in sorted(names) if name[0] not in "_."]
    return [name for name in shown if is_tar(name)] or [
        name for name in shown if name.lower().endswith(".parquet")
    ]


def _on_s3(folder: str, s3: S3) -> list[str]:
    place, names = S3Location.parse(f"{folder}/"), []
    for key in s3.walk(place):
        name = key.removeprefix(place.key)
        if name and not name.endswith("/") and reason_to_leave_out(name) is None:
            return []
        if name and "/" not in name:
            names.append(name)
    return names


def _local(folder: str) -> list[str]:
    try:
        names = [entry.name for entry in os.scandir(folder) if entry.is_file()]
        if any(is_tar(name) or name.lower().endswith(".parquet") for name in names):
            return [] if any(True for _ in photos_below(folder, Counter())) else names
    except OSError:
        pass  # whoever reads the folder will say so
    return []
