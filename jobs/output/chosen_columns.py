"""Which columns the finished rows of a run have, and in which order: `--columns`.

Parts always have every column, because the ledger counts and checks them; the files that people
read get the chosen ones. The columns in `ALWAYS` are in every file: a row has to be found in its
list, and the counts of the manifest are computed anew from these when rows are removed later.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from jobs.output.parquet import CONTENT_HASH, SCORED_BY, ColumnError

ALWAYS = ("position", "image", "status", "stage", "reason_kind", "emotion")
_OPTIONS = {
    "boxes": "--boxes",
    "embedding": "--embeddings",
    CONTENT_HASH: "--content-hash",
    SCORED_BY: "--since",
}


def choose_columns(
    columns: pa.Schema, wanted: Sequence[str] | None, *, extra: Sequence[str]
) -> tuple[str, ...] | None:
    """The names of the columns of a run's files, in their order.

    Those of `ALWAYS` that are not named come first, then the named ones in the order given, then
    the columns of the list that are not named.

    Args:
        columns: All columns that the run could have.
        wanted: Names that the user gave; None for all columns.
        extra: Names of the columns that pass through from the list.

    Returns:
        The names, or None if they are those of all columns in their usual order.

    Raises:
        ColumnError: A name is unknown or given twice, or a column that was asked for by an option
            of its own is not named.
    """
    if wanted is None:
        return None
    for place, name in enumerate(wanted):
        if name not in columns.names:
            option = _OPTIONS.get(name)
            hint = f" (it comes with {option})" if option else ""
            raise ColumnError(
                f"--columns names '{name}', which is no column of the result{hint}; there are "
                f"{', '.join(columns.names)}"
            )
        if name in wanted[:place]:
            raise ColumnError(f"--columns names '{name}' twice")
    for name, option in _OPTIONS.items():
        if name in columns.names and name not in (*wanted, *extra):
            raise ColumnError(f"{option} gives the column '{name}', which --columns leaves out")
    kept = (name for name in extra if name not in wanted)
    chosen = (*(name for name in ALWAYS if name not in wanted), *wanted, *kept)
    return None if list(chosen) == columns.names else chosen


def chosen_schema(columns: pa.Schema, chosen: Sequence[str] | None) -> pa.Schema:
    """The columns of a run's files in their usual order, those from the list last.

    Args:
        columns: All columns that the run could have.
        chosen: Names that `choose_columns` returned.
    """
    return pa.schema([item for item in columns if chosen is None or item.name in chosen])
