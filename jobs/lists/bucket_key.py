"""Lists that name an image in two columns, the bucket and the key, as S3 Inventory does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import pyarrow as pa

from jobs.values.chunks import Entry

_KEYS = {"key", "s3_key"}
_BUCKET = "bucket"


class Rows(Protocol):
    """A list of one of the formats."""

    @property
    def column(self) -> str | None:
        """Column that names the image."""

    @property
    def extra(self) -> pa.Schema:
        """The columns that pass through."""

    def entries(self) -> Iterator[Entry]:
        """One for each row, in the list's order."""


class BucketAndKey:
    """A list whose images are ``s3://`` and its bucket and its key.

    Args:
        rows: The list, with the column of the bucket among those that pass through.
        bucket: Name of this column.
        passes: Whether the bucket itself passes through.
    """

    def __init__(self, rows: Rows, bucket: str, *, passes: bool) -> None:
        self._rows = rows
        self._place = rows.extra.get_field_index(bucket)
        self._passes = passes
        self.column = rows.column
        self.extra = rows.extra if passes else rows.extra.remove(self._place)

    def entries(self) -> Iterator[Entry]:
        """One for each row, with the whole location."""
        for entry in self._rows.entries():
            image, extra, bucket = entry.image, entry.extra, entry.extra[self._place]
            if image and bucket and "://" not in image:
                image = f"s3://{bucket}/{image}"
            if not self._passes:
                extra = (*extra[: self._place], *extra[self._place + 1 :])
            yield Entry(image, extra)


def with_buckets(read: Callable[[Sequence[str] | None], Rows], keep: Sequence[str] | None) -> Rows:
    """A list with its buckets put before its keys, if it has both.

    Args:
        read: Function that reads the list with the columns that pass through.
        keep: Columns that pass through; None for all.
    """
    rows = read(keep)
    if (rows.column or "").casefold() not in _KEYS:
        return rows
    found = rows.extra.names if keep is None else read(None).extra.names
    bucket = next((name for name in found if name.casefold() == _BUCKET), None)
    if bucket is None:
        return rows
    if bucket in rows.extra.names:
        return BucketAndKey(rows, bucket, passes=True)
    return BucketAndKey(read([*(keep or ()), bucket]), bucket, passes=False)
