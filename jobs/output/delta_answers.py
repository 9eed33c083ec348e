"""Rows of a Delta table whose answers a run copies.

A row names its run and the digest of its model, but not the runtime. So a commit also records, as
an application transaction, with which runtime a run was scored; rows of runs without this record
are not copied. What a run was asked for is seen from its rows: they have every column of an answer.
The version of the table is fixed when the run that copies begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from handler.values.errors import VeaError
from jobs.output.delta import load_deltalake, refused_by, runtime_record
from jobs.output.delta_options import storage_options
from jobs.output.parquet import FACE_BOX, OK
from jobs.storage.folders import open_folder
from jobs.storage.stores import Stores
from jobs.values.chunks import RunIdentity

LOG = "_delta_log/"
_BATCH = 65_536


def is_table(root: str, stores: Stores) -> bool:
    """Whether a folder is a Delta table."""
    return bool(open_folder(root, stores, create=False).list(LOG))


def runs_of(root: str, identity: RunIdentity, stores: Stores) -> tuple[str, list[str]]:
    """The version of a table, and its runs of the same model and runtime.

    Args:
        root: Folder of the table.
        identity: Identity of the run that copies.
        stores: Clients of the object stores.

    Returns:
        What `open_version` takes, and the identifiers of the runs, sorted.
    """
    table = _open(root, stores)
    rows = table.to_pyarrow_dataset()
    version = f"{table.metadata().id}@{table.version()}"
    if not {"run_id", "model_digest"} <= set(rows.schema.names):
        return version, []
    found = set[str]()
    same_model = pc.field("model_digest") == identity.model_digest
    for batch in rows.to_batches(columns=["run_id"], filter=same_model):
        found.update(pc.unique(batch["run_id"]).to_pylist())
    known = [run for run in sorted(found) if _has_record(table, run, identity.runtime)]
    return version, known


class TableVersion:
    """One version of a table.

    Args:
        root: Folder of the table.
        version: Version, as `runs_of` returned it.
        stores: Clients of the object stores.

    Raises:
        VeaError: The table does not have this version any more.
    """

    def __init__(self, root: str, version: str, stores: Stores) -> None:
        table_id, _, number = version.partition("@")
        table = _open(root, stores, int(number))
        if table.metadata().id != table_id:
            raise VeaError(f"the Delta table {root} is another one than when this run began")
        self._root = root
        self._rows = table.to_pyarrow_dataset()

    def rows(self, run_id: str) -> int:
        """Number of rows of a run."""
        return int(self._rows.count_rows(filter=pc.field("run_id") == run_id))

    def tables(self, run_id: str, answer: pa.Schema) -> Iterator[pa.Table]:
        """The rows of a run that have a whole answer, always in the same order.

        Args:
            run_id: Identifier of the run.
            answer: Columns of an answer.
        """
        names = self._rows.schema.names
        if not set(answer.names) <= set(names):
            return
        wanted = (pc.field("run_id") == run_id) & (pc.field("status") == OK)
        fragments = sorted(self._rows.get_fragments(filter=wanted), key=lambda one: one.path)
        try:
            for fragment in fragments:
                for batch in fragment.to_batches(
                    self._rows.schema, filter=wanted, batch_size=_BATCH, use_threads=False
                ):
                    table = pa.Table.from_batches([batch])
                    yield table.filter(_is_whole(table, answer))
        except (pa.ArrowException, OSError) as error:
            raise refused_by(self._root, error) from None


def _is_whole(table: pa.Table, answer: pa.Schema) -> pa.ChunkedArray:
    """Whether each row has all columns of an answer; without a face, there is no box of one."""
    whole = pc.is_valid(table["status"])
    for name in answer.names:
        has = pc.is_valid(table[name])
        if name in FACE_BOX:
            has = pc.or_(has, pc.equal(table["faces"], 0))
        whole = pc.and_(whole, pc.fill_null(has, False))
    # Rows of a run that looked for faces are not those of one that did not.
    if "faces" not in answer.names and "faces" in table.column_names:
        whole = pc.and_(whole, pc.is_null(table["faces"]))
    return whole


def _open(root: str, stores: Stores, version: int | None = None) -> Any:
    deltalake = load_deltalake()
    try:
        options = storage_options(root, stores)
        return deltalake.DeltaTable(root, version=version, storage_options=options)
    except VeaError:
        raise
    except Exception as error:  # the package raises bare ones, too
        raise refused_by(root, error) from None


def _has_record(table: Any, run_id: str, runtime: str) -> bool:
    return table.transaction_version(runtime_record(run_id, runtime)) is not None
