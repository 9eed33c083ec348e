"""Folders of archives or of parquet files, which are one list, and not folders of photos."""

from __future__ import annotations

import os
from collections import Counter

from handler.photo_folders import photos_below, reason_to_leave_out
from jobs.lists.tar_list import is_tar
from jobs.storage.stores import Stores
from jobs.values.locations import ObjectLocation, is_in_store


def containers_in(folder: str, stores: Stores) -> list[str]:
    """Names of the files right in a folder that hold pictures, in their order.

    These are its archives, or else its parquet files: img2dataset leaves a table without pictures
    beside each archive. A folder with a photo in it, however deep, is a folder of photos.

    Args:
        folder: Path or ``s3://bucket/prefix``, without a slash at the end.
        stores: Clients of the object stores.

    Raises:
        StorageError: S3 does not list it.
    """
    names = _in_store(folder, stores) if is_in_store(folder) else _local(folder)
    shown = [name for name in sorted(names) if name[0] not in "_."]
    return [name for name in shown if is_tar(name)] or [
        name for name in shown if name.lower().endswith(".parquet")
    ]


def _in_store(folder: str, stores: Stores) -> list[str]:
    place, names = ObjectLocation.parse(f"{folder}/"), []
    for key in stores.walk(place):
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
