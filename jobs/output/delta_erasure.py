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

from handler.values.errors import VeaError
from jobs.output.delta import load_deltalake, refused_by
from jobs.output.delta_options import require_conditional_writes, storage_options
from jobs.output.partitions import path_values
from jobs.output.selection import Selection, SelectionError
from jobs.storage.stores import Stores

_ATTEMPTS = 5


def count_rows(table: str, selection: Selection, stores: Stores) -> int:
    """Number of selected rows in the latest version of a table.

    Args:
        table: Folder of the table, a path or ``s3://bucket/prefix``.
        selection: Rows to be counted.
        stores: Clients of the object stores.

    Raises:
        DeltaCommitError: There is no such table, or it cannot be read.
        SelectionError: The table lacks a column, or a value is not of its column's type.
    """
    found = _open(table, stores)
    return sum(_affected(table, found, selection).values())


def delete_rows(table: str, selection: Selection, stores: Stores) -> int:
    """Remove the selected rows from the latest version of a table; returns how many it had.

    Earlier versions keep them until `vacuum`.

    Args:
        table: Folder of the table, a path or ``s3://bucket/prefix``.
        selection: Rows to be removed.
        stores: Clients of the object stores.

    Raises:
        DeltaCommitError: There is no such table, or it refuses the removal.
        SelectionError: The table lacks a column, or a value is not of its column's type.
        UnconditionalWrites: The server of the table could lose commits.
    """
    require_conditional_writes(table, stores)
    affected = [dict(values) for values in _affected(table, _open(table, stores), selection)]
    return sum(
        _retried(table, partial(_replace, table, partition, selection, stores))
        for partition in affected
    )


def delete_run_rows(table: str, location: str, run_id: str, stores: Stores) -> int:
    """Remove the rows of one run from a table; returns how many it had.

    Args:
        table: Folder of the table, a path or ``s3://bucket/prefix``.
        location: Folder of the run; its columns such as ``dt=2026-11-23`` tell the rows.
        run_id: Identifier of the run, which tells the rows if the folder has no such columns.
        stores: Clients of the object stores.

    Raises:
        DeltaCommitError: There is no such table, or it refuses the removal.
        UnconditionalWrites: The server of the table could lose commits.
    """
    require_conditional_writes(table, stores)
    partition = path_values(location) or {"run_id": run_id}
    answer = _retried(table, lambda: _open(table, stores).delete(_predicate(partition)))
    return int(answer.get("num_deleted_rows") or 0)


def vacuum(table: str, stores: Stores) -> int:
    """Delete the files of earlier versions, which still hold removed rows; returns how many.

    A program that reads an earlier version at this moment may fail.

    Args:
        table: Folder of the table, a path or ``s3://bucket/prefix``.
        stores: Clients of the object stores.

    Raises:
        DeltaCommitError: There is no such table, or it refuses.
    """
    options = {"retention_hours": 0, "enforce_retention_duration": False, "dry_run": False}
    return len(_retried(table, lambda: _open(table, stores).vacuum(**options)))


def _open(table: str, stores: Stores) -> Any:
    deltalake = load_deltalake()
    try:
        return deltalake.DeltaTable(table, storage_options=storage_options(table, stores))
    except VeaError:
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


def _replace(table: str, partition: Mapping[str, Any], selection: Selection, stores: Stores) -> int:
    """Write a partition without its selected rows; returns how many there were."""
    deltalake = load_deltalake()
    found = _open(table, stores)
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
        except VeaError:
            raise
        except deltalake.exceptions.CommitFailedError as error:
            if attempt == _ATTEMPTS:
                raise refused_by(table, error) from None
        except Exception as error:  # the package raises bare ones, too
            raise refused_by(table, error) from None
    raise AssertionError("the last attempt returns or raises")
