"""Text lists: one image a line; blank lines and lines that start with ``# `` are skipped."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import pyarrow as pa

from jobs.lists.columns import ListError
from jobs.lists.snapshot import ListSnapshot
from jobs.values.chunks import Entry

_LISTING = re.compile(r"\d{4}-\d\d-\d\d +\d\d:\d\d:\d\d +\d+ |  +PRE ")


class TextList:
    """A list without columns.

    Args:
        copy: Local copy of the list.
        column: Always None.
        keep: Always empty.

    Raises:
        ListError: Columns were requested.
    """

    def __init__(
        self, copy: ListSnapshot, *, column: str | None, keep: Sequence[str] | None
    ) -> None:
        for option, value in (("column", column), ("keep", keep)):
            if value:
                raise ListError(
                    f"the list {copy.location} is a text file, which has no columns: leave out "
                    f"--{option}"
                )
        self.column = None
        self.extra = pa.schema([])
        self._copy = copy

    def entries(self) -> Iterator[Entry]:
        """One for each image, in the list's order."""
        with self._copy.text() as text:
            for number, line in enumerate(text, 1):
                image = line.strip()
                if _LISTING.match(line):
                    raise ListError(
                        f"line {number} of the list {self._copy.location} is one of `aws s3 ls`, "
                        "and no image: expected s3://bucket/key on each line; or name the prefix "
                        "itself in place of a list, s3://bucket/prefix/"
                    )
                if image and image != "#" and not line.startswith("# "):
                    yield Entry(image)
