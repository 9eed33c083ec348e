"""CSV and TSV lists: a header, then one image a row; cells may be quoted and hold line breaks.

Columns that pass through are always text, so an id keeps its leading zeros.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence

import pyarrow as pa

from jobs.lists.columns import ListError, image_column, kept_columns
from jobs.lists.snapshot import ListSnapshot
from jobs.values.chunks import Entry

# An unpaired quote makes everything that follows one cell.
csv.field_size_limit(1 << 24)


class DelimitedList:
    """A table of cells.

    A row that ends before its image is still a row, with the image ``""``; other cells that a row
    lacks are null.

    Args:
        copy: Local copy of the list.
        delimiter: Delimiter between cells.
        column: Column of the images; None for the first usual one.
        keep: Columns that pass through; None for all.

    Raises:
        ListError: The header does not have these columns.
    """

    def __init__(
        self, copy: ListSnapshot, *, delimiter: str, column: str | None, keep: Sequence[str] | None
    ) -> None:
        self._copy = copy
        self._delimiter = delimiter
        self._width = 0  # not known before the header is
        header = [name.strip() for name in next(self._rows(), [])]
        self.column = image_column(copy.location, header, column)
        kept = kept_columns(copy.location, header, self.column, keep)
        self.extra = pa.schema([pa.field(name, pa.string()) for name in kept])
        self._image = header.index(self.column)
        self._kept = [header.index(name) for name in kept]
        self._width = len(header)

    def entries(self) -> Iterator[Entry]:
        """One for each row that is not blank, in the list's order."""
        image, kept, width = self._image, self._kept, self._width
        rows = self._rows()
        next(rows)
        for row in rows:
            if not row or (len(row) == 1 and row[0].isspace()):
                continue
            cells: Sequence[str | None] = row
            if len(row) < width:
                cells = [*row, *[None] * (width - len(row))]
            yield Entry((cells[image] or "").strip(), tuple([cells[place] for place in kept]))

    def _rows(self) -> Iterator[list[str]]:
        with self._copy.text(newline="") as text:
            rows = csv.reader(text, delimiter=self._delimiter, strict=True)
            try:
                for row in rows:
                    if fault := self._fault(row):
                        raise csv.Error(fault)
                    yield row
            except csv.Error as error:
                raise ListError(
                    f"the list {self._copy.location} is damaged in line {rows.line_num}: {error}"
                ) from None

    def _fault(self, row: list[str]) -> str | None:
        """The sign that a row was not read as it was meant; None if there is none."""
        if self._width and any(row[self._width :]):
            return (
                f"{len(row)} cells where the header has {self._width}: a cell with "
                f"{self._delimiter!r} in it must be in quotes"
            )
        # Many programs write tabs between cells and no quotes around them, so that a cell that
        # begins with a quote swallows what follows, until another one does.
        if self._delimiter == "\t" and any("\t" in cell and "\n" in cell for cell in row):
            return (
                "a quoted cell holds tabs and line breaks: where quotes are text, they must be "
                "doubled, and the cell in quotes"
            )
        return None
