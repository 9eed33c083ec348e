"""Columns that a folder's path gives: ``dt=2026-11-23/model_version=1.1``.

Programs that read many runs at once take such folders as columns. The files below must not have the
same columns: pandas, `pyarrow.dataset` and Spark give a column of the path different types, so no
type in the files suits all three, and Athena refuses a table that has a column twice. So a column
with one value for all rows of a run is left out of the files if the path contains it, and a path
that names any other column of the result is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from handler.values.errors import VeaError
from jobs.output import parquet
from jobs.values.locations import is_in_store


class PathColumnError(VeaError):
    """A path cannot hold results; the message is one line for people."""


def path_values(location: str) -> dict[str, str]:
    """The columns that a path gives, and their values, outermost first.

    Args:
        location: Local path, all of whose folders count, or ``s3://bucket/prefix``.
    """
    path = location if is_in_store(location) else str(Path(location).absolute())
    parts = (part.partition("=") for part in path.split("/") if re.fullmatch(r"[^=]+=.+", part))
    return {name: value for name, _, value in parts}


def path_columns(location: str) -> list[str]:
    """Names of the columns of `path_values`."""
    return list(path_values(location))


def refuse_varying(location: str, passed_through: Iterable[str]) -> None:
    """Make sure that a path names no column that differs from row to row.

    Args:
        location: Location as for `path_columns`.
        passed_through: Columns that come from the list.

    Raises:
        PathColumnError: The path names one of these columns, and readers would put its value in
            place of each row's own.
    """
    ours = set(parquet.schema((), extra=pa.schema([]), boxes=True, detects=True).names) - set(
        parquet.ORIGIN
    )
    varying = {name.casefold() for name in (*ours, *passed_through)}
    for name in path_columns(location):
        if name.casefold() in varying:
            raise PathColumnError(
                f"the path {location} has a folder '{name}=...', but '{name}' is a column of the "
                "result and readers would mix the two: rename the folder, or leave the list's "
                "column out with --keep"
            )
