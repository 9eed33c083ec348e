"""The list of images that a job scores, read in constant memory.

A list is a text file, a table (CSV, TSV, JSON lines) that may be compressed with gzip or zstd, or a
parquet file, local or on S3. One column of a table names the image, the others pass through into
the result. Images are ``s3://bucket/key``, ``https://host/path`` or paths, relative ones to the
folder that the list is in. An image that is listed twice is scored twice, unless the job takes each
once (see `jobs.lists.distinct`). Files that hold the pictures themselves (see
`jobs.lists.containers`) are lists, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from jobs.lists.bucket_key import with_buckets
from jobs.lists.columns import ListError
from jobs.lists.containers import open_containers
from jobs.lists.declared import DeclaredList, Types
from jobs.lists.delimited import DelimitedList
from jobs.lists.jsonl import JsonList
from jobs.lists.many_files import ManyFiles, digest, files_of
from jobs.lists.parquet import ParquetList
from jobs.lists.snapshot import ListSnapshot, snapshot_list
from jobs.lists.text import TextList
from jobs.storage.folders import Folder
from jobs.storage.stores import Stores
from jobs.values.chunks import Entry
from jobs.values.locations import folder_of, is_relative

_SAMPLE = 1_000


class _ListFormat(Protocol):
    """What every format offers."""

    @property
    def column(self) -> str | None:
        """Column that names the image; None where there are no columns."""

    @property
    def extra(self) -> pa.Schema:
        """The columns that pass through."""

    def entries(self) -> Iterator[Entry]:
        """One entry for each row, in the list's order; each call begins again."""


class EvenSample:
    """Items spread evenly over a sequence whose length is not known before its end.

    Args:
        max_items: Maximum number of items that are kept; of a longer sequence, at least half as
            many are kept.

    Attributes:
        items: Items so far, in their order.
    """

    def __init__(self, max_items: int) -> None:
        self.items: list[str] = []
        self._max_items = max_items
        self._step = 1
        self._seen = 0

    def add(self, item: str) -> None:
        """Take note of the next item."""
        if self._seen % self._step == 0:
            if len(self.items) == self._max_items:
                del self.items[1::2]
                self._step *= 2
            if self._seen % self._step == 0:
                self.items.append(item)
        self._seen += 1


@dataclass(frozen=True)
class ImageList:
    """A list that has been read through once.

    Attributes:
        location: Location as the user gave it.
        sha256: SHA-256 of the file's bytes, hexadecimal.
        folder: Folder of relative images: a local path, or ``s3://bucket/prefix``.
        column: Column that names the image; None for a text file.
        rows: Number of images in the list.
        has_relative: Whether any image is relative to ``folder``.
        extra: Names and types of the columns that pass through.
        sample: Images that are spread evenly over the list, all of a short one; the files that hold
            the images, where files do.
        types: Types of the columns where they were declared and the list alone has others.
        undeclared: Names of the list's columns that are not declared, and so left out.
        left_out: Number of members of archives left out for each reason of `handler.photo_folders`.
        unread_texts: Number of texts in archives that are null since they cannot be read.
    """

    location: str
    sha256: str
    folder: str
    column: str | None
    rows: int
    has_relative: bool
    extra: pa.Schema
    sample: tuple[str, ...]
    types: tuple[str, ...] | None
    undeclared: tuple[str, ...]
    _entries: Callable[[], Iterator[Entry]] = field(repr=False, compare=False)
    left_out: Mapping[str, int] = field(default_factory=dict)
    unread_texts: int = 0

    def __iter__(self) -> Iterator[Entry]:
        """The rows in the list's order; iterations are independent of each other."""
        return self._entries()


@contextmanager
def open_list(
    location: str,
    *,
    column: str | None = None,
    keep: Sequence[str] | None = None,
    types: Types | None = None,
    source: str = "--schema",
    stores: Stores | None = None,
    out: Folder | None = None,
) -> Iterator[ImageList]:
    """Open a list of images; the copy of it lives as long as the context.

    Args:
        location: Path or ``s3://bucket/key`` whose name ends in .txt, .csv, .tsv, .jsonl, .ndjson
            (with or without .gz or .zst after it), .parquet or .tar (.tar.gz, .tgz, .tar.zst); or a
            folder or pattern of these.
        column: Column that names or holds the image; None for the first of
            `jobs.lists.columns.IMAGE_COLUMNS` that the list has. Of archives, the ending of the
            pictures that count; None for all.
        keep: Columns that pass through, in this order; None for all but those of pictures.
        types: Declared columns; None for those of the list.
        source: Name of what declares the columns, for messages.
        stores: Clients of the object stores; created if None.
        out: Folder of the output, where indexes of archives are kept; None to keep none.

    Raises:
        ListError: There is no such list, or its content is not what its name says.
        StorageError: S3 does not give it.
    """
    stores = stores or Stores(threads=1)
    with ExitStack() as stack:
        files: Sequence[str] = files_of(location, stores)
        held = stack.enter_context(
            open_containers(location, files, stores, column=column, keep=keep, out=out)
        )
        if held is not None:
            found: Sequence[_ListFormat] = held.formats
            files, sha256 = held.files, held.digest
        else:
            copies = [stack.enter_context(snapshot_list(file, stores)) for file in files]
            found = [_read(copy, column, keep, types or {}) for copy in copies]
            sha256 = digest([copy.sha256 for copy in copies])
        own, undeclared = found[0].extra, dict[str, None]()
        if types is not None:
            places = files if len(found) == len(files) else [location]
            declared = [
                DeclaredList(file, types, location=place, source=source)
                for file, place in zip(found, places, strict=True)
            ]
            undeclared = dict.fromkeys(name for file in declared for name in file.left_out)
            found = list(declared)
        columns = found[0] if len(found) == 1 else ManyFiles(location, found)
        rows, relative, sample = 0, False, EvenSample(_SAMPLE)
        # Reading to the end first gives the number of images, and finds a damaged line before
        # hours of work rather than after them.
        for entry in columns.entries():
            rows += 1
            relative = relative or is_relative(entry.image)
            if held is None:
                sample.add(entry.image)
        for file in held.files if held else ():
            sample.add(file)
        yield ImageList(
            location=location,
            sha256=sha256,
            folder=folder_of(files[0]),
            column=columns.column,
            rows=rows,
            has_relative=relative,
            extra=columns.extra,
            sample=tuple(sample.items),
            types=tuple(f"{f.name}: {f.type}" for f in columns.extra)
            if columns.extra != own
            else None,
            undeclared=tuple(undeclared),
            _entries=columns.entries,
            left_out=held.left_out if held else {},
            unread_texts=held.unread_texts if held else 0,
        )


def _suffix(location: str) -> str:
    """Suffix of the format, without that of the compression."""
    name = location.rpartition("/")[2].lower()
    packed = Path(name).suffix in (".gz", ".zst")
    suffix = Path(name.rpartition(".")[0] if packed else name).suffix
    known = (".txt", ".csv", ".tsv", ".jsonl", ".ndjson")
    if suffix in known or (suffix == ".parquet" and not packed):
        return suffix
    raise ListError(
        f"'{location}' is not a list of images: expected a name that ends in {', '.join(known)} "
        "(or one of these and .gz or .zst), .parquet or .tar, or a folder that ends in '/'"
    )


def _read(
    copy: ListSnapshot, column: str | None, keep: Sequence[str] | None, types: Types
) -> _ListFormat:
    suffix = _suffix(copy.location)
    return with_buckets(lambda kept: _read_as(suffix, copy, column, kept, types), keep)


def _read_as(
    suffix: str,
    copy: ListSnapshot,
    column: str | None,
    keep: Sequence[str] | None,
    types: Types,
) -> _ListFormat:
    match suffix:
        case ".txt":
            return TextList(copy, column=column, keep=keep)
        case ".csv":
            return DelimitedList(copy, delimiter=",", column=column, keep=keep)
        case ".tsv":
            return DelimitedList(copy, delimiter="\t", column=column, keep=keep)
        case ".parquet":
            return ParquetList(copy, column=column, keep=keep)
        case _:
            text = {name for name, kind in types.items() if kind == "string"}
            return JsonList(copy, column=column, keep=keep, text=text)
