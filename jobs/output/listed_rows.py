"""Rows of distinct images -> one row for every row of the list, in its order.

A run that scores each image once has parts of distinct images. At the end, a row that names an
image again gets the answer of the first one, with its own position, spelling and columns. What will
be needed again waits in a file without a name; memory holds one block of rows.
"""

from __future__ import annotations

import os
import tempfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress, islice
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jobs.output.compaction import PartError
from jobs.values.chunks import Entry

_BLOCK = 1_024
Numbers = npt.NDArray[np.int64]


class ListedRows:
    """Turns the rows of distinct images into those of a list.

    Args:
        entries: Rows of the list.
        numbers: Number of each row's image, counted in the order in which images are first named.
        repeated: Whether an image is named more than once.
        extra: Columns that pass through from the list.
    """

    def __init__(
        self,
        entries: Iterable[Entry],
        numbers: Numbers,
        repeated: npt.NDArray[np.bool_],
        extra: pa.Schema,
    ) -> None:
        self._entries = entries
        self._numbers = numbers
        self._repeated = repeated
        self._extra = extra

    def __call__(self, tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """All rows of the list.

        Args:
            tables: Rows of the distinct images, in the order of their numbers.
        """
        if not len(self._numbers):
            yield from tables
            return
        entries = iter(self._entries)
        rows = _Rows(tables)
        known = 0
        with tempfile.TemporaryFile() as file:
            waiting = _Waiting(file, self._repeated)
            for start in range(0, len(self._numbers), _BLOCK):
                block = np.array(self._numbers[start : start + _BLOCK])
                # A new image has a larger number than all before it.
                count = max(known, int(block.max()) + 1) - known
                new = rows.take(count)
                waiting.add(new, known)
                known += count
                again = _is_again(block, known - count)
                answers = [new, *waiting.find(block[again])]
                order = np.empty(len(block), np.int64)
                order[~again] = np.arange(count)
                order[again] = np.arange(count, len(block))
                table = pa.concat_tables(answers).combine_chunks().take(pa.array(order))
                yield self._own(table, start, again, list(islice(entries, len(block))))

    def _own(
        self,
        table: pa.Table,
        start: int,
        again: npt.NDArray[np.bool_],
        entries: Sequence[Entry],
    ) -> pa.Table:
        """Rows with what differs between rows of one image."""
        own: dict[str, pa.Array] = {"position": pa.array(range(start, start + len(entries)))}
        of_again = list(compress(entries, again))
        own["image"] = _replaced(table["image"], again, [entry.image for entry in of_again])
        for place, item in enumerate(self._extra):
            values = [entry.extra[place] for entry in of_again]
            own[item.name] = _replaced(table[item.name], again, values)
        for name, values in own.items():
            column = table.schema.get_field_index(name)
            table = table.set_column(column, table.schema.field(column), values)
        return table


def _replaced(
    column: pa.ChunkedArray, which: npt.NDArray[np.bool_], values: Sequence[Any]
) -> pa.ChunkedArray:
    """A column with other values in some rows; of any type, unlike `replace_with_mask`."""
    places = np.arange(len(column))
    places[which] = len(column) + np.arange(len(values))
    return pa.chunked_array([*column.chunks, pa.array(values, column.type)]).take(pa.array(places))


def _is_again(block: Numbers, known: int) -> npt.NDArray[np.bool_]:
    """Which rows name an image that is known, or that a row before them in the block names."""
    again = np.ones(len(block), bool)
    again[np.unique(block, return_index=True)[1]] = False
    return again | (block < known)


class _Rows:
    """Rows that come in tables of any size, taken in blocks."""

    def __init__(self, tables: Iterator[pa.Table]) -> None:
        self._tables = tables
        self._rest: pa.Table = next(tables)

    def take(self, count: int) -> pa.Table:
        while self._rest.num_rows < count:
            more = next(self._tables, None)
            if more is None:
                raise PartError("the last part lacks rows: delete the parts, start again")
            self._rest = pa.concat_tables([self._rest, more])
        taken, self._rest = self._rest.slice(0, count), self._rest.slice(count)
        return taken.combine_chunks()


class _Waiting:
    """Rows of images that are named again, in a file, found by the numbers of their images."""

    def __init__(self, file: IO[bytes], repeated: npt.NDArray[np.bool_]) -> None:
        self._file = file
        self._repeated = repeated
        self._firsts: list[int] = []  # the first number of each block, also of one without rows
        self._places: list[tuple[int, int]] = []
        self._schema = pa.schema([])

    def add(self, rows: pa.Table, first: int) -> None:
        """Keep those rows that are needed again; ``first`` is the number of the first one."""
        if not rows.num_rows:
            return
        self._schema = rows.schema
        kept = rows.filter(pa.array(np.array(self._repeated[first : first + rows.num_rows])))
        content = b"".join(
            batch.serialize().to_pybytes() for batch in kept.combine_chunks().to_batches()
        )
        self._firsts.append(first)
        self._places.append((self._file.seek(0, os.SEEK_END), len(content)))
        self._file.write(content)
        self._file.flush()

    def find(self, numbers: Numbers) -> Iterator[pa.Table]:
        """One row for each number, in their order; several numbers of a block in one table."""
        blocks = [bisect_right(self._firsts, number) - 1 for number in numbers.tolist()]
        order = np.argsort(blocks, kind="stable")
        tables = []
        for block, places in _runs(np.array(blocks, np.int64)[order], order):
            first = self._firsts[block]
            ranks = [
                int(np.count_nonzero(self._repeated[first:number]))
                for number in numbers[places].tolist()
            ]
            tables.append(self._read(block).take(pa.array(ranks, pa.int64())))
        if tables:
            back = np.empty(len(order), np.int64)
            back[order] = np.arange(len(order))
            yield pa.concat_tables(tables).combine_chunks().take(pa.array(back))

    def _read(self, block: int) -> pa.Table:
        start, size = self._places[block]
        data = pa.py_buffer(os.pread(self._file.fileno(), size, start))
        return pa.Table.from_batches([pa.ipc.read_record_batch(data, self._schema)])


def _runs(values: Numbers, places: Numbers) -> Iterator[tuple[int, Numbers]]:
    """Each value of a sorted array, with its places."""
    if len(values):
        ends = np.flatnonzero(np.diff(values)) + 1
        firsts = values[np.concatenate([[0], ends])].tolist()
        yield from zip(firsts, np.split(places, ends), strict=True)
