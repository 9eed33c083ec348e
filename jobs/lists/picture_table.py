"""Parquet files that hold the pictures themselves: each row is one, and its other columns pass.

The pictures are not read here. A file's end tells how many rows there are, and only the columns
that pass through are read, so that a list of a terabyte costs what its texts do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.lists.columns import ListError, kept_columns
from jobs.lists.parquet import column_values
from jobs.lists.picture_columns import (
    BYTES,
    PATH,
    PictureColumn,
    chosen_pictures,
    columns_of_pictures,
    only_nulls,
    plain_type,
    typed_pictures,
)
from jobs.storage.errors import ObjectUnavailable
from jobs.storage.pinned import PinnedFile, open_pinned
from jobs.storage.stores import Stores
from jobs.values.chunks import Entry
from jobs.values.inside import InTable

_AT_A_TIME = 8
_BATCH = 4_096
_BUFFER = 1024 * 1024


@contextmanager
def opened(
    location: str, stores: Stores, version: str | None = None
) -> Iterator[tuple[PinnedFile, pq.ParquetFile]]:
    """Open a parquet file where it lies: gives it as bytes and as a table.

    Args:
        location: Location of the file.
        stores: Clients of the object stores.
        version: Version that it must have; None for the present one.

    Raises:
        ListError: The file is missing, or no parquet file; also raised inside the context.
        StorageError: The file has changed, or nothing can be read.
    """
    try:
        with (
            open_pinned(location, stores, version=version) as pinned,
            pq.ParquetFile(pinned, buffer_size=_BUFFER, pre_buffer=False) as file,
        ):
            yield pinned, file
    except ObjectUnavailable as refused:
        if refused.kind == "missing":
            raise ListError(f"there is no list of images at {location}") from None
        raise ListError(f"the list {location} cannot be read: {refused.reason}") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        line = " ".join(str(error).split())[:200]
        raise ListError(f"the list {location} cannot be read as parquet: {line}") from None


class PictureTable:
    """A parquet file with a column of pictures.

    Args:
        location: Location of the file; a whole one, since it is part of every row.
        stores: Clients of the object stores.
        pictures: Column of the pictures.
        known: Columns of pictures, which pass through only if they are asked for.
        keep: Columns that pass through; None for all but pictures. The bytes of the column that is
            scored are filled in by the workers.

    Attributes:
        column: Name of the column of pictures.
        extra: Columns that pass through; the paths of ``{bytes, path}`` among them.
        version: Version of the file.
        has_only_paths: Whether the file says that all its pictures are paths without bytes.

    Raises:
        ListError: The file is no parquet file, or does not have these columns.
        StorageError: The file cannot be read.
    """

    def __init__(
        self,
        location: str,
        stores: Stores,
        pictures: PictureColumn,
        *,
        known: set[str],
        keep: Sequence[str] | None,
    ) -> None:
        self._location = location
        self._stores = stores
        self.column = pictures.name
        with opened(location, stores) as (pinned, file):
            self.version = pinned.version
            schema, self._rows = file.schema_arrow, file.metadata.num_rows
            self.has_only_paths = pictures.has_path and only_nulls(file, f"{pictures.name}.{BYTES}")
        found = typed_pictures(schema, pictures.name)
        if found is None or found.is_struct != pictures.is_struct:
            raise ListError(
                f"the list {location} has no pictures in the column '{pictures.name}', as the "
                "files before it have"
            )
        path = f"{pictures.name}_{PATH}"
        self._path = path if found.has_path and path not in schema.names else None
        names = [*schema.names, *([self._path] if self._path else [])]
        if keep is None:
            names = [name for name in names if name not in known]
        kept = kept_columns(location, names, pictures.name, keep)
        self.extra = pa.schema([pa.field(name, self._type(schema, name)) for name in kept])

    def _type(self, schema: pa.Schema, name: str) -> pa.DataType:
        if name == self._path:
            return pa.string()
        if name == self.column:
            return pa.binary()
        return plain_type(schema.field(name).type)

    def entries(self) -> Iterator[Entry]:
        """One for each row, in the file's order."""
        for row, extra in enumerate(self._extras()):
            inside = InTable(self._location, self.version, self.column, row)
            yield Entry(f"{self._location}#row={row}", extra, inside)

    def _extras(self) -> Iterator[tuple[Any, ...]]:
        sources = {name: name for name in self.extra.names if name != self.column}
        if self._path in sources:
            sources[self._path] = f"{self.column}.{PATH}"
        if not sources:
            yield from ((None,) * len(self.extra) for _ in range(self._rows))
            return
        with opened(self._location, self._stores, self.version) as (_, file):
            wanted = list(sources.values())
            for batch in file.iter_batches(_BATCH, columns=wanted, use_threads=False):
                yield from zip(*[self._values(batch, item) for item in self.extra], strict=True)

    def _values(self, batch: pa.RecordBatch, item: pa.Field) -> Sequence[Any]:
        if item.name == self.column:
            return [None] * len(batch)
        if item.name == self._path:
            return batch.column(self.column).flatten()[0].cast(pa.string()).to_pylist()
        return column_values(batch.column(item.name), item.type)


def tables_of_pictures(
    files: Sequence[str], stores: Stores, *, column: str | None, keep: Sequence[str] | None
) -> list[PictureTable] | None:
    """The parquet files of a list, if they hold pictures; None if they hold names of pictures.

    Args:
        files: Locations of the files; the first one decides.
        stores: Clients of the object stores.
        column: Column of the pictures; None for the usual one.
        keep: Columns that pass through; None for all but pictures.

    Raises:
        ListError: A file is missing, or no parquet file, or does not have these columns.
        StorageError: A file cannot be read.
    """
    with opened(files[0], stores) as (_, file):
        pictures = chosen_pictures(files[0], file, column)
        known = columns_of_pictures(file) if pictures and keep is None else set[str]()
    if pictures is None:
        return None
    with ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="vea-index") as pool:
        try:
            made = partial(PictureTable, stores=stores, pictures=pictures, known=known, keep=keep)
            tables = list(pool.map(made, files))
        finally:
            pool.shutdown(cancel_futures=True)
    if all(table.has_only_paths for table in tables):
        raise ListError(
            f"the list {files[0]} holds no pictures in the column '{pictures.name}', only their "
            "paths: write their bytes into the file, for a data set of Hugging Face by "
            "map(datasets.table.embed_table_storage), or give the paths as a list"
        )
    return tables
