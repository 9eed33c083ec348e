"""Lists that hold the pictures themselves: tar archives, and parquet files with pictures in them.

They are not copied, as lists of names are, but read where they lie. So every file is pinned to the
version that was listed: the digest of such a list is that of the locations and versions of its
files.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from jobs.lists.columns import ListError
from jobs.lists.kept_indexes import KeptIndexes
from jobs.lists.picture_table import PictureTable, tables_of_pictures
from jobs.lists.tar_list import TarList, is_tar
from jobs.storage.folders import Folder
from jobs.storage.stores import Stores
from jobs.values.locations import is_in_store


@dataclass(frozen=True)
class Containers:
    """Files that hold pictures, as a list.

    Attributes:
        formats: The files as lists, one after the other.
        files: Locations of the files.
        digest: Digest of what the files are: locations and versions.
        left_out: Number of members left out for each reason of `handler.photo_folders`.
        unread_texts: Number of texts beside pictures that could not be read.
    """

    formats: Sequence[TarList | PictureTable]
    files: Sequence[str]
    digest: str
    left_out: Counter[str] = field(default_factory=Counter)
    unread_texts: int = 0


@contextmanager
def open_containers(
    location: str,
    files: Sequence[str],
    stores: Stores,
    *,
    column: str | None,
    keep: Sequence[str] | None,
    out: Folder | None = None,
) -> Iterator[Containers | None]:
    """Open the files of a list, if they hold pictures; gives None if they hold names of pictures.

    Args:
        location: Location of the list as the user gave it, for messages.
        files: Locations of its files.
        stores: Clients of the object stores.
        column: Column of the pictures, or ending of the pictures in archives.
        keep: Columns that pass through; None for all but pictures.
        out: Folder of the output, where indexes of archives are kept; None to keep none.

    Raises:
        ListError: A file is missing or damaged, or does not have these columns.
        StorageError: A file cannot be read.
    """
    # Locations are part of the rows, and workers may run in another folder.
    whole = [file if is_in_store(file) else os.path.abspath(file) for file in files]
    tars = [file for file in whole if is_tar(file)]
    if tars and len(tars) < len(whole):
        other = next(file for file in whole if not is_tar(file))
        raise ListError(
            f"the list {location} has archives and other files, such as {other}: name one kind "
            "with a pattern, such as '*.tar'"
        )
    if tars:
        found = TarList(
            location,
            whole,
            stores,
            column=column,
            keep=keep,
            indexes=None if out is None else KeptIndexes(out),
        )
        try:
            digest = _digest(whole, found.versions)
            yield Containers([found], whole, digest, found.left_out, found.unread_texts)
        finally:
            found.close()
        return
    tables = None
    if all(file.lower().endswith(".parquet") for file in whole):
        tables = tables_of_pictures(whole, stores, column=column, keep=keep)
    if tables is None:
        yield None
    else:
        yield Containers(tables, whole, _digest(whole, [table.version for table in tables]))


def _digest(files: Sequence[str], versions: Sequence[str]) -> str:
    lines = [f"{version} {file}\n" for file, version in zip(files, versions, strict=True)]
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()
