"""The list of a run, with the columns that are declared or that the nights before have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from handler.values.errors import VeaError
from jobs.lists.declared import read_schema
from jobs.lists.image_list import ImageList, open_list
from jobs.output.root_schema import RootSchema, SchemaError, merged, root_of, types_of
from jobs.storage.errors import StorageError
from jobs.storage.folders import Folder, FolderError
from jobs.storage.stores import Stores
from jobs.values.job import ScoreJob


@contextmanager
def open_declared(
    job: ScoreJob,
    location: str,
    stores: Stores,
    warn: Callable[[str], None],
    *,
    keep: bool = True,
    out: Folder | None = None,
) -> Iterator[ImageList]:
    """Open the list of a job; its columns are kept in the root of the output for later nights.

    Args:
        job: Job whose columns and output count.
        location: Location of the list.
        stores: Clients of the object stores.
        warn: Function that is told, in one line, which columns are left out.
        keep: Whether the columns are kept.
        out: Folder of the output, where indexes of archives are kept; None to keep none.

    Raises:
        VeaError: The list cannot be read, or a column of it has not the declared type.
    """
    declared = read_schema(job.schema, stores) if job.schema else None
    root, known = _known(job.out, stores, warn, create=keep)
    types = merged(declared, known, where=root.location if root else "")
    source = root.location if root and known else f"--schema {job.schema}"
    with ExitStack() as stack:
        images = stack.enter_context(
            open_list(
                location,
                column=job.column,
                keep=job.keep,
                types=types or None,
                source=source,
                stores=stores,
                out=out,
            )
        )
        if root and types is None:
            types, source = types_of(images.extra), "the list itself"
        if root and types and keep:
            _keep(root, types, known, warn)
        if images.undeclared:
            warn(
                f"left out of the result: {', '.join(images.undeclared)}, which {source} does not "
                "have; add what is wanted there, or with --schema"
            )
        if images.unread_texts:
            warn(
                f"{images.unread_texts} texts beside pictures of {location} are null in the "
                "result: they are longer than 1 MiB, no UTF-8, no regular files, or there twice"
            )
        yield images


def _known(
    out: str, stores: Stores, warn: Callable[[str], None], *, create: bool
) -> tuple[RootSchema | None, dict[str, str] | None]:
    place = root_of(out)
    if place is None:
        return None, None
    try:
        root = RootSchema(place, stores, create=create)
        return root, root.read()
    except (StorageError, FolderError) as error:
        warn(f"the columns of the nights before are not known: {error}")
        return None, None


def _keep(
    root: RootSchema,
    types: dict[str, str],
    known: dict[str, str] | None,
    warn: Callable[[str], None],
) -> None:
    try:
        kept = root.keep(types, known)
    except VeaError as error:
        warn(f"the columns are not kept for later nights: {error}")
        return
    if not kept and root.read() != types:
        raise SchemaError(f"another run has just written {root.location}: start again")
