"""Removes rows from a Delta table.

A partition that holds such rows is replaced by its other rows. Delta's own ``DELETE`` would write
the condition, and with it the author or image, into the log of the table, where it would stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs.output.delta import DeltaCommitError, load_deltalake, refused_by, storage_options
from jobs.output.partitions import path_values
from jobs.output.selection import Selection, SelectionError
from jobs.storage.s3 import S3

_ATTEMPTS = 5


def count_rows(table: str, selection: Selection, s3: S3) -> int:
    """Number of selected rows in the latest version of a table.

    Args:
        table: Folder of the table, a path or ``s3://bucket/prefix``.
        selection: Rows to be counted.
        s3: S3 client.

    Raises:
        DeltaCommitError: There is no such table, or it cannot be read.
        SelectionError: The table lacks a column, or a value is not of its column's type.
    """
    found = _open(table, s3)
    return sum(_affected(table, found, selection).values())


def delete_rows(table: str, selection: Selection, s3: S3) -> int:
    """Remove the selected rows from the latest version of a table; returns how many it had.

    Earlier versions keep them until `vacuum`.

    Args:
        table: Folder of the table, a path or ``s3://bucket/prefix``.
        selection: Rows to be removed.
        s3: S3 client.

    Raises:
        DeltaCommitError: There is no such table, or it refuses the removal.
        SelectionError: The table lacks a column, or a value is not of its column's type.
    """
    affected = [dict(values) for values in _affected(table, _open(table, s3), selection)]
    return sum(
        _retried(table, partial(_replace, table, partition, selection, s3))
        for partition in affected
    )


def delete_run_rows(table: str, location: str, run_id: str, s3: S3) -> int:
    """Remove the rows of one run from a table; returns how many it had.

    Args:
        table: Folder of the table, a path or ``s3://bucket/prefix``.
        location: Folder of the run; its columns such as ``dt=2026-11-23`` tell the rows.
        run_id: Identifier of the run, which tells the rows if the folder has no such columns.
        s3: S3 client.

    Raises:
        DeltaCommitError: There is no such table, or it refuses the removal.
    """
    partition = path_values(location) or {"run_id": run_id}
    answer = _retried(table, lambda: _open(table, s3).delete(_predicate(partition)))
    return int(answer.get("num_deleted_rows") or 0)


def vacuum(table: str, s3: S3) -> int:
    """Delete the files of earlier versions, which still hold removed rows; returns how many.

    A program that reads an earlier version at this moment may fail.

    Args:
        table: Folder of the table, a path or ``s3://bucket/prefix``.
        s3: S3 client.

    Raises:
        DeltaCommitError: There is no such table, or it refuses.
    """
    options = {"retention_hours": 0, "enforce_retention_duration": False, "dry_run": False}
    return len(_retried(table, lambda: _open(table, s3).vacuum(**options)))


def _open(table: str, s3: S3) -> Any:
    deltalake = load_deltalake()
    try:
        return deltalake.DeltaTable(table, storage_options=storage_options(table, s3))
    except DeltaCommitError:
        raise
    except Exception as error:  # the package raises bare ones, too
        raise refused_by(table, error) from None


def _affected(
    table: str, found: Any, selection: Selection
) -> dict[tuple[tuple[str, Any], ...], int]:
    """Number of selected rows by partition, as pairs of column and value."""
    dataset = found.to_pyarrow_dataset()
    if not selection.fits(dataset.schema):
        missing = ", ".join(sorted(set(selection.columns) - set(dataset.schema.names)))
        raise SelectionError(f"the Delta table {table} has no column {missing}")
    partition = list(found.metadata().partition_columns)
    counts: dict[tuple[tuple[str, Any], ...], int] = {}
    for batch in dataset.to_batches(columns=[*dict.fromkeys([*partition, *selection.columns])]):
        rows = pa.Table.from_batches([batch])
        chosen = rows.filter(selection.mask(rows)).select(partition)
        for row in chosen.to_pylist():
            key = tuple(row.items())
            counts[key] = counts.get(key, 0) + 1
    return counts


def _replace(table: str, partition: Mapping[str, Any], selection: Selection, s3: S3) -> int:
    """Write a partition without its selected rows; returns how many there were."""
    deltalake = load_deltalake()
    found = _open(table, s3)
    wanted = None
    for name, value in partition.items():
        one = pc.field(name) == value
        wanted = one if wanted is None else wanted & one
    rows = found.to_pyarrow_dataset().to_table(filter=wanted)
    mask = selection.mask(rows)
    kept = rows.filter(pc.invert(mask))
    if kept.num_rows == rows.num_rows:
        return 0
    predicate = _predicate(partition) if partition else None
    if kept.num_rows:
        deltalake.write_deltalake(
            found,
            kept,
            mode="overwrite",
            predicate=predicate,
            partition_by=list(partition) or None,
        )
    else:
        found.delete(predicate)
    return rows.num_rows - kept.num_rows


def _predicate(partition: Mapping[str, Any]) -> str:
    quoted = {name: str(value).replace("'", "''") for name, value in partition.items()}
    return " AND ".join(f"{name} = '{value}'" for name, value in quoted.items())


def _retried(table: str, act: Callable[[], Any]) -> Any:
    """Repeat what another commit has come in between of."""
    deltalake = load_deltalake()
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return act()
        except DeltaCommitError:
            raise
        except deltalake.exceptions.CommitFailedError as error:
            if attempt == _ATTEMPTS:
                raise refused_by(table, error) from None
        except Exception as error:  # the package raises bare ones, too
            raise refused_by(table, error) from None
    raise AssertionError("the last attempt returns or raises")
