"""Parquet lists: columns pass through with the types that they have in the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.lists.columns import ListError, image_column, kept_columns
from jobs.lists.picture_columns import columns_of_pictures, plain_type
from jobs.lists.snapshot import ListSnapshot
from jobs.values.chunks import Entry

_BATCH = 16_384
_BUFFER = 1024 * 1024


class ParquetList:
    """A parquet file, read a batch of rows at a time.

    Args:
        copy: Local copy of the list.
        column: Column of the images, of type text; None for the first usual one.
        keep: Columns that pass through; None for all but those that hold pictures.

    Raises:
        ListError: The file is not a parquet file, or does not have these columns.
    """

    def __init__(
        self, copy: ListSnapshot, *, column: str | None, keep: Sequence[str] | None
    ) -> None:
        self._copy = copy
        with self._opened() as file:
            columns = file.schema_arrow
            pictures = columns_of_pictures(file) if keep is None else set[str]()
        self.column = image_column(copy.location, columns.names, column)
        kind = plain_type(columns.field(self.column).type)
        if not _is_text(kind):
            raise ListError(
                f"the column '{self.column}' of the list {copy.location} holds {kind}: expected "
                "names of images as text, or one picture in each row, as binary or as a struct of "
                "bytes and path; name another column with --column"
            )
        names = [n for n in columns.names if n == self.column or n not in pictures]
        kept = kept_columns(copy.location, names, self.column, keep)
        self.extra = pa.schema(
            [pa.field(name, plain_type(columns.field(name).type)) for name in kept]
        )

    def entries(self) -> Iterator[Entry]:
        """One for each row, in the list's order."""
        wanted = list(dict.fromkeys([self.column, *self.extra.names]))
        with self._opened() as file:
            for index, batch in enumerate(
                file.iter_batches(_BATCH, columns=wanted, use_threads=False)
            ):
                images = self._images(batch.column(self.column), index * _BATCH)
                kept = [column_values(batch.column(item.name), item.type) for item in self.extra]
                extras = zip(*kept, strict=True) if kept else (() for _ in images)
                for image, extra in zip(images, extras, strict=True):
                    yield Entry((image or "").strip(), extra)

    def _images(self, column: pa.Array, before: int) -> list[str | None]:
        try:
            names: list[str | None] = column.cast(pa.string()).to_pylist()
        except pa.ArrowException:
            row = next(n for n, value in enumerate(column, 1) if not _is_name(value))
            raise ListError(
                f"row {before + row} of the list {self._copy.location} holds bytes in the column "
                f"'{self.column}' that are no text, as those of a picture: expected names of "
                "images; name another column with --column"
            ) from None
        return names

    @contextmanager
    def _opened(self) -> Iterator[pq.ParquetFile]:
        try:
            with (
                self._copy.binary() as binary,
                # Without a buffer, the whole column of a row group is read at once.
                pq.ParquetFile(binary, buffer_size=_BUFFER, pre_buffer=False) as file,
            ):
                yield file
        except (pa.ArrowException, OSError, ValueError) as error:
            line = " ".join(str(error).split())[:200]
            raise ListError(
                f"the list {self._copy.location} cannot be read as parquet: {line}"
            ) from None


def _is_name(value: pa.Scalar) -> bool:
    try:
        value.cast(pa.string()).validate(full=True)
    except pa.ArrowException:
        return False
    return True


def _is_text(kind: pa.DataType) -> bool:
    # Some programs do not mark text as text.
    tests = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_null,
    )
    return any(test(kind) for test in tests)


def column_values(column: pa.Array, kind: pa.DataType) -> list[Any]:
    """Values of a column that passes through, as `pyarrow.Table.from_pylist` takes them.

    Timestamps and durations come as integers of the column's unit: Python's own types have no
    nanoseconds, and need a database of time zones. Arrow converts the integers back.

    Args:
        column: Values.
        kind: Plain type of the values.
    """
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_timestamp(kind) or pa.types.is_duration(kind) or pa.types.is_time64(kind):
        column = column.cast(kind).cast(pa.int64())
    return column.to_pylist()
