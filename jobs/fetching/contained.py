"""Pictures inside tar archives and parquet files, read where the files lie.

The file that was read last stays open. A picture behind the last one is reached by skipping what
lies between; one before it, in a compressed archive, by unpacking the archive from its beginning.
What a picture is does not depend on the order of the requests.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.storage.errors import ObjectUnavailable
from jobs.storage.pinned import PinnedFile, open_pinned
from jobs.storage.stores import Stores
from jobs.storage.unpacking import Unpacked
from jobs.values.inside import InTable, InTar

_REQUEST = 4 * 1024 * 1024  # bytes
# Rows that are decoded together. They begin with their row group, wherever the reading begins.
_ROWS = 8


class ContainedImages:
    """Reads pictures inside files; safe to share between threads, which wait for each other.

    Args:
        stores: Clients of the object stores.
        max_bytes: Size limit of a picture, in bytes.
    """

    def __init__(self, stores: Stores, *, max_bytes: int) -> None:
        self._stores = stores
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._tar_open: tuple[tuple[str, str], _Tar] | None = None
        self._table_open: tuple[tuple[str, str, str], _Table] | None = None

    def fetch(self, inside: InTar | InTable) -> bytes:
        """The encoded picture at a place.

        Raises:
            ObjectUnavailable: This picture cannot be read, or is larger than the limit.
            StorageError: The file is not the one that was listed, or nothing can be read.
        """
        if isinstance(inside, InTar):
            _refuse_large(inside.size, self._max_bytes)
            with self._lock:
                return self._tar(inside).read(inside.offset, inside.size)
        with self._lock:
            table = self._table(inside)
            data = table.read(inside.row)
        if data is None:
            raise ObjectUnavailable("missing", f"this row holds no picture{table.beside}")
        _refuse_large(len(data), self._max_bytes)
        return data

    def _tar(self, inside: InTar) -> _Tar:
        key = inside.file, inside.version
        found = self._tar_open
        if found is None or found[0] != key or not found[1].reaches(inside.offset):
            self._tar_open = None  # closed before the other is opened
            file = open_pinned(inside.file, self._stores, version=inside.version, block=_REQUEST)
            found = self._tar_open = key, _Tar(file)
        return found[1]

    def _table(self, inside: InTable) -> _Table:
        key = inside.file, inside.version, inside.field
        found = self._table_open
        if found is None or found[0] != key:
            self._table_open = None
            file = open_pinned(inside.file, self._stores, version=inside.version)
            found = self._table_open = key, _Table(file, inside.field)
        return found[1]


class _Tar:
    """An archive that is open."""

    def __init__(self, file: PinnedFile) -> None:
        self._content = Unpacked(file)
        self._failed = False

    def reaches(self, offset: int) -> bool:
        """Whether a position can be reached from where the reading stands."""
        return not self._failed and (
            not self._content.is_packed or offset >= self._content.position
        )

    def read(self, offset: int, size: int) -> bytes:
        """The bytes of a member."""
        self._failed = True  # where the reading stands after an exception is not known
        self._content.seek(offset)
        data = self._content.read(size)
        if len(data) != size:
            raise ObjectUnavailable("unreadable", "the archive ends within this picture")
        self._failed = False
        return data


class _Table:
    """A parquet file that is open, and the rows that were decoded last.

    Args:
        file: The file.
        column: Name of the column of pictures.

    Attributes:
        beside: Text that follows the reason of a row without bytes.
    """

    def __init__(self, file: PinnedFile, column: str) -> None:
        self._parquet = pq.ParquetFile(file, buffer_size=_REQUEST, pre_buffer=False)
        kind = self._parquet.schema_arrow.field(column).type
        is_struct = pa.types.is_struct(kind)
        self._column = f"{column}.bytes" if is_struct else column
        self.beside = ": its bytes are null, and a path is not followed" if is_struct else ""
        metadata = self._parquet.metadata
        sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        self._starts = [0, *accumulate(sizes)]
        self._group = -1
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._values: pa.Array = pa.array([], pa.binary())
        self._first = 0  # row of the first of these values
        self._damaged: dict[int, tuple[int, str]] = {}

    def read(self, row: int) -> bytes | None:
        """The bytes of a row; None if it has none."""
        group = bisect_right(self._starts, row) - 1
        if group in self._damaged and row >= self._damaged[group][0]:
            raise ObjectUnavailable("unreadable", self._damaged[group][1])
        if group != self._group or row < self._first:
            self._batches = self._parquet.iter_batches(
                _ROWS, row_groups=[group], columns=[self._column], use_threads=False
            )
            self._values, self._first = self._values[:0], self._starts[group]
        self._group = -1  # where the reading stands after an exception is not known
        while row >= self._first + len(self._values):
            self._first += len(self._values)
            self._values = self._next(group)
        self._group = group
        data: bytes | None = self._values[row - self._first].as_py()
        return data

    def _next(self, group: int) -> pa.Array:
        self._values = self._values[:0]  # two batches need not be held
        try:
            column = next(self._batches).column(0)
        except (pa.ArrowException, OSError, ValueError, StopIteration) as error:
            line = " ".join(str(error).split())[:200]
            reason = f"the rows of the file from {self._first} on are damaged: {line}"
            self._damaged[group] = self._first, reason
            raise ObjectUnavailable("unreadable", reason) from None
        return column.flatten()[0] if pa.types.is_struct(column.type) else column


def _refuse_large(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise ObjectUnavailable(
            "too-large", f"the picture has {size} bytes; at most {max_bytes} are accepted"
        )
