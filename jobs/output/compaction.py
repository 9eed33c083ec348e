"""Compaction: the many small parts of a run become the few large files that people read.

Parts are small so that little is lost when a worker dies; query engines want files of a hundred
megabytes. Rows keep their order, and files and their row groups are cut by rows alone, so that the
same rows give the same bytes however they were divided into parts. Memory holds one encoded
file, one row group, and the few parts that are read ahead.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from handler.values.errors import VeaError
from jobs.output.parquet import FAILED, OK, ROW_GROUP, SCORED_BY, read_part, writer_options
from jobs.storage.folders import Folder
from jobs.values.layout import SUFFIX

PREFIX = "images-"
ROWS_PER_FILE = 1_000_000
READERS = 8

# S3 accepts at most 5 GiB in a single put. Only very long values of the list's columns reach this.
MAX_BYTES_PER_FILE = 2 * 1024**3


Expansion = Callable[[Iterator[pa.Table]], Iterator[pa.Table]]


class PartError(VeaError):
    """A part is not what the run should have written; the message is one line for people."""


@dataclass(frozen=True)
class DataFile:
    """One of the files of a finished run.

    Attributes:
        name: Name of the object.
        rows: Number of images in it.
        bytes: Size in bytes.
        sha256: SHA-256 of the content, hexadecimal.
    """

    name: str
    rows: int
    bytes: int
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass
class Counts:
    """Figures of the rows in the files.

    Attributes:
        rows: Number of images.
        status: Number of ``ok`` and of ``failed`` images.
        reasons: Number of failed images for each ``stage/reason_kind``.
        emotions: Number of images for each emotion that is the most probable one.
        copied: Number of images whose answer is copied from an earlier run.
    """

    rows: int = 0
    status: Counter[str] = field(default_factory=lambda: Counter({OK: 0, FAILED: 0}))
    reasons: Counter[str] = field(default_factory=Counter)
    emotions: Counter[str] = field(default_factory=Counter)
    copied: int = 0

    def add(self, table: pa.Table) -> None:
        """Count further rows."""
        kinds = ["status", "stage", "reason_kind", "emotion"]
        if SCORED_BY in table.column_names:
            self.copied += table.num_rows - table[SCORED_BY].null_count
        groups = table.group_by(kinds, use_threads=False).aggregate([([], "count_all")])
        for group in groups.to_pylist():
            count = group["count_all"]
            self.rows += count
            self.status[group["status"]] += count
            if group["status"] == FAILED:
                self.reasons[f"{group['stage']}/{group['reason_kind']}"] += count
            else:
                self.emotions[group["emotion"]] += count

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON, without ``copied``."""
        return {
            "rows": self.rows,
            "status": dict(sorted(self.status.items())),
            "reasons": dict(sorted(self.reasons.items())),
            "emotions": dict(sorted(self.emotions.items())),
        }


def compact(
    folder: Folder,
    parts: Sequence[str],
    *,
    run_id: str | None = None,
    columns: Sequence[str] | None = None,
    leave_out: Iterable[str] = (),
    rows_per_file: int = ROWS_PER_FILE,
    rows_per_group: int = ROW_GROUP,
    bytes_per_file: int = MAX_BYTES_PER_FILE,
    expand: Expansion | None = None,
    of_parts: Counts | None = None,
) -> tuple[list[DataFile], Counts]:
    """Write the rows of all parts into ``images-00000.parquet`` and so on.

    A file holds ``rows_per_file`` rows, the last one fewer; there is always one, so that readers
    find the columns of a run without rows too.

    Args:
        folder: Folder of the parts and the files.
        parts: Names of the parts, in order; at least one.
        run_id: Identifier of the run that the rows must be of; not checked if None.
        columns: Columns of the files, in their order; all columns of the parts if None.
        leave_out: Columns that the files do not get.
        rows_per_file: Maximum number of rows in a file.
        rows_per_group: Maximum number of rows in a row group of a file.
        bytes_per_file: Size in bytes at which a file is closed after the row group that reaches it.
        expand: Function from the rows of the parts to those of the files, in their order.
        of_parts: Receives the figures of the rows of the parts.

    Raises:
        ObjectMissing: A part does not exist.
        PartError: A part is damaged, or its rows are not those that follow.
    """
    counts, of_parts = Counts(), Counts() if of_parts is None else of_parts
    files = _Files(folder, rows_per_file, rows_per_group, bytes_per_file)
    dropped = {name.casefold() for name in leave_out}
    tables = _read(folder, parts, of_parts, run_id)
    for table in expand(tables) if expand else tables:
        counts.add(table)
        names = table.column_names if columns is None else columns
        files.add(table.select([name for name in names if name.casefold() not in dropped]))
    return files.close(), counts


def _read(
    folder: Folder, parts: Sequence[str], counts: Counts, run_id: str | None
) -> Iterator[pa.Table]:
    """The parts' rows in order, checked and counted, with a few parts being read ahead."""
    rest = iter(parts)
    columns: pa.Schema | None = None
    with ThreadPoolExecutor(READERS, thread_name_prefix="vea-parts") as pool:

        def start(name: str) -> tuple[str, Future[bytes]]:
            return name, pool.submit(folder.read, name)

        coming = deque(start(name) for name in islice(rest, READERS))
        try:
            while coming:
                name, content = coming.popleft()
                try:
                    table = read_part(content.result())
                    columns = columns or table.schema
                    _check(table, columns, first=counts.rows)
                    _check_run(table, run_id)
                    counts.add(table)
                except (ValueError, KeyError) as error:
                    raise damaged(name, folder, error) from None
                coming.extend(start(name) for name in islice(rest, 1))
                yield table
        finally:
            pool.shutdown(cancel_futures=True)


def damaged(name: str, folder: Folder, error: Exception) -> PartError:
    """The error for a part that cannot be read."""
    line = str(error).strip().splitlines()[0]
    return PartError(f"{name} in {folder.location} is damaged ({line}): delete it, start again")


def _check(table: pa.Table, columns: pa.Schema, *, first: int) -> None:
    if not table.schema.equals(columns):
        raise ValueError("its columns are not those of the parts before it")
    positions = table["position"].to_numpy()
    if not np.array_equal(positions, np.arange(first, first + len(positions))):
        found = f"{positions[0]} to {positions[-1]}"
        raise ValueError(
            f"it has the rows {found} where {first} to {first + len(positions) - 1} should be"
        )


def _check_run(table: pa.Table, run_id: str | None) -> None:
    """A worker of a run that was replaced may have written a part since; refuse it."""
    if run_id is not None and any(
        found != run_id for found in table["run_id"].unique().to_pylist()
    ):
        raise ValueError("it belongs to another run")


class _Files:
    """Writes files one after the other, in row groups of one size but for the last of each file.

    Each group is contiguous in memory, because parquet pages end where a chunk of memory ends.
    """

    def __init__(
        self, folder: Folder, rows_per_file: int, rows_per_group: int, bytes_per_file: int
    ) -> None:
        self._folder = folder
        self._rows_per_file = rows_per_file
        self._rows_per_group = rows_per_group
        self._bytes_per_file = bytes_per_file
        self._written: list[DataFile] = []
        self._waiting: list[pa.Table] = []
        self._rows_waiting = 0
        self._file: _OpenFile | None = None

    def add(self, table: pa.Table) -> None:
        self._waiting.append(table)
        self._rows_waiting += table.num_rows
        while self._rows_waiting >= (size := self._next_group()):
            self._write_group(size)

    def close(self) -> list[DataFile]:
        if self._rows_waiting or not (self._file or self._written):
            self._write_group(self._rows_waiting)
        if self._file:
            self._written.append(self._file.close(self._folder))
        return self._written

    def _next_group(self) -> int:
        in_file = self._file.rows if self._file else 0
        return min(self._rows_per_group, self._rows_per_file - in_file)

    def _write_group(self, size: int) -> None:
        rows = pa.concat_tables(self._waiting)
        if self._file is None:
            self._file = _OpenFile(f"{PREFIX}{len(self._written):05d}{SUFFIX}", rows.schema)
        self._file.add(rows.slice(0, size).combine_chunks())
        self._waiting, self._rows_waiting = [rows.slice(size)], rows.num_rows - size
        if self._file.rows == self._rows_per_file or self._file.bytes >= self._bytes_per_file:
            self._written.append(self._file.close(self._folder))
            self._file = None


class _OpenFile:
    """A parquet file in memory; it is written to its folder in one piece when it is complete."""

    def __init__(self, name: str, columns: pa.Schema) -> None:
        self._name = name
        self._buffer = io.BytesIO()
        self._writer = pq.ParquetWriter(self._buffer, columns, **writer_options(columns))
        self.rows = 0

    @property
    def bytes(self) -> int:
        return self._buffer.tell()

    def add(self, group: pa.Table) -> None:
        self._writer.write_table(group, row_group_size=max(1, group.num_rows))
        self.rows += group.num_rows

    def close(self, folder: Folder) -> DataFile:
        self._writer.close()
        data = self._buffer.getvalue()
        folder.write(self._name, data)
        return DataFile(self._name, self.rows, len(data), hashlib.sha256(data).hexdigest())
