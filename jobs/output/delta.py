"""A finished run becomes one commit of a Delta Lake table.

The folder of a run stays as it is; the table gets a copy of its rows. The commit replaces the rows
of the same partition: the columns that the folder's path gives, such as ``dt``, or ``run_id`` if
the path gives none. So a day that was scored again is in the table once. Delta stores, as an
application transaction, which run a partition was last committed from. A run is therefore committed
once, however often its command is started, and again only if another run has taken its place.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from handler.values.errors import VeaError
from handler.values.runtimes import TORCH
from jobs.output import parquet
from jobs.output.delta_options import require_conditional_writes, storage_options
from jobs.output.delta_types import DeltaTypeError, convert, delta_columns, nanoseconds
from jobs.output.partitions import path_values
from jobs.storage.errors import one_line
from jobs.storage.folders import Folder, open_folder
from jobs.storage.stores import Stores
from jobs.values.layout import MANIFEST, SUCCESS

_ATTEMPTS = 5


class DeltaCommitError(VeaError):
    """The rows cannot be committed; the message is one line for people."""


def require_delta() -> None:
    """Raises: DeltaCommitError: The package is missing; known before the work begins."""
    load_deltalake()


def check_columns(
    table: str, out: str, columns: pa.Schema, extras: Iterable[tuple[Any, ...]], stores: Stores
) -> None:
    """See that a table can hold what a run will give, before the run begins.

    Args:
        table: Folder of the table, a path or ``s3://bucket/prefix``; there may be none yet.
        out: Folder of the run.
        columns: Columns of the run's result; those from the list are the last ones.
        extras: Values of each row for the columns from the list, points in time as integers of
            their unit.
        stores: Clients of the object stores.

    Raises:
        DeltaTypeError: The table cannot hold a column.
    """
    constants = path_values(out)
    found = [column for column in columns if column.name not in constants]
    delta_columns(found, _columns_of(table, stores), where=table)
    precise = nanoseconds(found)
    first = len(columns)
    for values in extras if precise else ():
        first = len(columns) - len(values)
        for name in precise:
            value = values[columns.get_field_index(name) - first]
            if value is not None and value % 1000:
                raise DeltaTypeError(
                    f"the column '{name}' has values with nanoseconds, of which Delta tables hold "
                    "microseconds: round them in the list, or leave it out with --keep"
                )


def _columns_of(table: str, stores: Stores) -> pa.Schema | None:
    """Columns of a table; None if there is none."""
    deltalake = load_deltalake()
    options = storage_options(table, stores)
    try:
        if not deltalake.DeltaTable.is_deltatable(table, storage_options=options):
            return None
        return pa.schema(deltalake.DeltaTable(table, storage_options=options).schema().to_arrow())
    except Exception as error:  # the package raises bare ones, too
        raise refused_by(table, error) from None


def commit_run(out: str, table: str, stores: Stores) -> bool:
    """Commit the rows of the finished run in ``out`` to a Delta table, unless they are there.

    Args:
        out: Folder of the run, a path or ``s3://bucket/prefix``.
        table: Folder of the table of all runs, a path or ``s3://bucket/prefix``; created if there
            is none.
        stores: Clients of the object stores.

    Returns:
        Whether there was anything to commit.

    Raises:
        DeltaCommitError: The run is not finished, a file of it is damaged, or the table does not
            accept its rows.
        StorageError: A file of the run cannot be read.
        UnconditionalWrites: The server of the table could lose commits.
    """
    deltalake = load_deltalake()
    folder = open_folder(out, stores)
    manifest = _manifest(folder)
    require_conditional_writes(table, stores)
    options = storage_options(table, stores)
    constants = path_values(folder.location)
    for name, value in constants.items():
        if not name.isidentifier() or "'" in value:
            raise DeltaCommitError(
                f"the folder '{name}={value}' in {folder.location} cannot be a partition of a "
                "Delta table: expected letters, digits and '_', and a value without quotes"
            )
    partition = constants or {"run_id": manifest["run_id"]}
    # The same list, scored into two partitions, is one run, but has to be committed twice.
    partition_path = "/".join(f"{name}={value}" for name, value in partition.items())
    # A transaction's version is a number of 64 bits: as much of the run's hash as fits.
    run = deltalake.Transaction(
        app_id=f"vea:{partition_path}", version=int(manifest["run_id"][:15], 16)
    )
    # Rows do not name it, and `jobs.output.delta_answers` has to know it.
    scored_with = manifest["settings"].get("runtime", TORCH)
    runtime = deltalake.Transaction(
        app_id=runtime_record(manifest["run_id"], scored_with), version=0
    )
    refused: Exception
    unread: list[VeaError] = []
    for _ in range(_ATTEMPTS):
        try:
            reader = _rows(folder, manifest, partition, unread, _columns_of(table, stores), table)
            deltalake.DeltaTable.create(
                table,
                reader.schema,
                mode="ignore",  # if there is one
                partition_by=list(partition),
                storage_options=options,
            )
            # The version read here is the one that is written to: Delta refuses a commit if another
            # one of the same transaction came in between.
            found = deltalake.DeltaTable(table, storage_options=options)
            if found.transaction_version(run.app_id) == run.version:
                return False
            deltalake.write_deltalake(
                found,
                reader,
                mode="overwrite",
                predicate=" and ".join(f"{k} = '{v}'" for k, v in partition.items()),
                partition_by=list(partition),
                schema_mode="merge",  # another list may have brought other columns
                commit_properties=deltalake.CommitProperties(
                    custom_metadata={"vea_run": manifest["run_id"]},
                    app_transactions=[run, runtime],
                ),
            )
            return True
        except deltalake.exceptions.CommitFailedError as error:
            refused = error  # another commit came first, perhaps of this very run
        except VeaError:  # a file that cannot be read is no refusal by the table
            raise
        except (
            Exception
        ) as error:  # the package also raises plain ones, for columns that it does not support
            if unread:
                raise unread[0] from None
            raise refused_by(table, error) from None
    raise refused_by(table, refused)


def runtime_record(run_id: str, runtime: str) -> str:
    """Identifier of the transaction that records with which runtime a run was scored."""
    return f"vea-runtime:{run_id}:{runtime}"


def load_deltalake() -> Any:
    """The package, which is an extra. Raises: DeltaCommitError: It is not installed."""
    try:
        import deltalake  # noqa: PLC0415 - an extra
        import deltalake.exceptions  # noqa: PLC0415
    except ModuleNotFoundError:
        raise DeltaCommitError(
            "Delta tables need a package that is missing: pip install 'vea[delta]'"
        ) from None
    return deltalake


def _manifest(folder: Folder) -> dict[str, Any]:
    if SUCCESS not in folder.list():
        raise DeltaCommitError(f"{folder.location} holds no finished run: there is no {SUCCESS}")
    manifest: dict[str, Any] = json.loads(folder.read(MANIFEST))
    return manifest


def _rows(
    folder: Folder,
    manifest: Mapping[str, Any],
    constants: Mapping[str, str],
    unread: list[VeaError],
    columns: pa.Schema | None,
    where: str,
) -> pa.RecordBatchReader:
    """All rows, file by file, with the columns that the folder's path gives.

    They have the types of ``columns``, those of the table ``where`` they go to.

    Delta replaces an error that is raised while it reads by its own; ``unread`` gets the original.
    """
    names = [file["name"] for file in manifest["files"]]
    first = _read(folder, names[0])
    types = delta_columns(first.schema, columns, where=where)

    def complete(table: pa.Table) -> pa.Table:
        table = convert(table, types)
        for column, value in constants.items():
            if column in table.column_names:
                continue
            filled = pa.array([value] * table.num_rows, pa.string())
            table = table.append_column(pa.field(column, pa.string()), filled)
        return table

    first = complete(first)

    def batches() -> Iterator[pa.RecordBatch]:
        yield from first.to_batches()
        for name in names[1:]:
            try:
                table = complete(_read(folder, name))
            except VeaError as error:
                unread.append(error)
                raise
            yield from table.to_batches()

    return pa.RecordBatchReader.from_batches(first.schema, batches())


def _read(folder: Folder, name: str) -> pa.Table:
    try:
        return parquet.read_part(folder.read(name))
    except ValueError as error:
        raise DeltaCommitError(
            f"{name} in {folder.location} is damaged ({one_line(str(error))}): score the list "
            "again with another --out"
        ) from None


def refused_by(table: str, error: Exception) -> DeltaCommitError:
    """The error for a table that refuses what is asked of it."""
    return DeltaCommitError(f"the Delta table {table} rejects the run: {one_line(str(error))}")
