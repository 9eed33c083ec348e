"""Lists that are several files: what Spark leaves in a folder, archives, or what a pattern names.

The files are one list in the order of their names. Each has the same columns.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from typing import Protocol

import pyarrow as pa

from jobs.lists.columns import ListError
from jobs.lists.container_folders import containers_in
from jobs.storage.stores import Stores
from jobs.values.chunks import Entry
from jobs.values.locations import ObjectLocation, is_in_store, is_prefix

# Spark, Hive, Athena and their like name their files so.
_PART = re.compile(
    r"part-.*\.(txt|csv|tsv|jsonl|ndjson)(\.gz|\.zst)?|part-.*\.parquet", re.IGNORECASE
)
_PATTERN = re.compile(r"[*?]")


class OneFile(Protocol):
    """A list of one of the formats."""

    @property
    def column(self) -> str | None:
        """Column that names the image."""

    @property
    def extra(self) -> pa.Schema:
        """The columns that pass through."""

    def entries(self) -> Iterator[Entry]:
        """One for each row, in the list's order."""


def is_folder_of_parts(location: str, stores: Stores) -> bool:
    """Whether a folder holds the files of a list, or archives of images, rather than images."""
    place = location.rstrip("/")
    return bool(_parts(place, stores) or containers_in(place, stores))


def files_of(location: str, stores: Stores) -> list[str]:
    """The files of a list, in the order of their names.

    Args:
        location: Location of a list, of a folder of Spark's files or of archives, or a pattern such
            as ``s3://lists/2026-11-23/*.parquet``.
        stores: Clients of the object stores.

    Raises:
        ListError: A pattern fits no file.
    """
    folder, slash, name = location.rpartition("/")
    if is_prefix(location):
        place = location.rstrip("/")
        found = _parts(place, stores) or containers_in(place, stores)
        return [f"{place}/{part}" for part in found] or [location]
    wild = _PATTERN.search(name)
    if not wild or (not is_in_store(location) and os.path.exists(location)):
        return [location]
    sizes = _sizes(folder or ".", name[: wild.start()], stores)
    fitting = [n for n in sorted(sizes) if fnmatch.fnmatchcase(n, name) and n[0] not in "_."]
    if not fitting:
        raise ListError(f"no file fits the list {location}")
    return [f"{folder}{slash}{n}" for n in fitting if sizes[n]] or [f"{folder}{slash}{fitting[0]}"]


def _parts(folder: str, stores: Stores) -> list[str]:
    """Names of the files that Spark left; it writes empty ones, too."""
    sizes = _sizes(folder, "part-", stores)
    found = [name for name in sorted(sizes) if _PART.fullmatch(name)]
    return [name for name in found if sizes[name]] or found[:1]


def _sizes(folder: str, start: str, stores: Stores) -> dict[str, int]:
    """Names and sizes (bytes) of the files right in a folder whose names begin in one way."""
    if is_in_store(folder):
        place = ObjectLocation.parse(f"{folder}/{start}")
        return {f"{start}{rest}": size for rest, size in stores.list(place).items()}
    try:
        return {
            entry.name: entry.stat().st_size
            for entry in os.scandir(folder)
            if entry.name.startswith(start) and entry.is_file()
        }
    except OSError:
        return {}


class ManyFiles:
    """Files of one list, one after the other.

    Args:
        location: Location of the list, for messages.
        files: The files, at least one.

    Raises:
        ListError: The files have different columns.
    """

    def __init__(self, location: str, files: Sequence[OneFile]) -> None:
        self._files = files
        self.column = files[0].column
        self.extra = files[0].extra
        for number, file in enumerate(files[1:], 2):
            if file.column != self.column or file.extra != self.extra:
                theirs = ", ".join(f"{field.name}: {field.type}" for field in file.extra)
                raise ListError(
                    f"the files of the list {location} have different columns: file {number} has "
                    f"{theirs or 'none'}; declare them with --schema"
                )

    def entries(self) -> Iterator[Entry]:
        """One for each row, file by file."""
        for file in self._files:
            yield from file.entries()


def digest(digests: Sequence[str]) -> str:
    """The digest of a list: its own if it is one file."""
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()
