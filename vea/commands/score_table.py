"""The Delta Lake table that `vea score` commits to: looked at before the work, written after it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

from vea.terminal import complain

if TYPE_CHECKING:
    import pyarrow as pa

    from jobs.lists.image_list import ImageList


def columns_check(
    out: str, table: str, *, dry: bool = False
) -> Callable[[pa.Schema, ImageList], None]:
    """A function that refuses columns which the table cannot hold, before the work begins.

    It also refuses a server that could lose commits.

    Args:
        out: Folder of the run.
        table: Folder of the table.
        dry: Whether nothing may be written, so that the server is not tried.
    """

    def accept(columns: pa.Schema, images: ImageList) -> None:
        from jobs.output.delta import check_columns
        from jobs.output.delta_options import require_conditional_writes
        from jobs.storage.stores import Stores

        with closing(Stores(threads=4)) as stores:
            if not dry:
                require_conditional_writes(table, stores)
            check_columns(table, out, columns, (entry.extra for entry in images), stores)

    return accept


def commit(out: str, table: str) -> None:
    """Commit the finished run in ``out`` to the table, and say if it is there already."""
    from jobs.output.delta import commit_run
    from jobs.storage.stores import Stores

    with closing(Stores(threads=4)) as stores:
        committed = commit_run(out, table, stores)
    if not committed:
        complain(f"{table} holds this run already: nothing to commit")
