"""The columns of the nights before, kept beside them: ``_schema.json`` in the root of the results.

The root is the folder above those that give columns: ``s3://results`` of
``s3://results/dt=2026-11-23``. The first night leaves its columns from the list and their types
there, and later ones keep to them, because readers of the root take it for one table. Its name
begins with '_', which such readers pass over. It can be edited or deleted by hand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import pyarrow as pa

from handler.values.errors import VeaError
from jobs.storage.folders import Folder, ObjectMissing, open_folder
from jobs.storage.stores import Stores

NAME = "_schema.json"


class SchemaError(VeaError):
    """The kept columns cannot be used; the message is one line for people."""


def root_of(out: str) -> str | None:
    """The root that a run's folder lies in; None if its path gives no columns."""
    folders = out.split("/")
    for place, folder in enumerate(folders):
        name, equals, value = folder.partition("=")
        if name and equals and value:
            return "/".join(folders[:place]) or ("/" if out.startswith("/") else ".")
    return None


class RootSchema:
    """The columns that all nights of a root have.

    Args:
        root: Location of the root.
        stores: Clients of the object stores.
        create: Whether a local root is made if it does not exist.

    Attributes:
        location: Location of the file.
    """

    def __init__(self, root: str, stores: Stores, *, create: bool = True) -> None:
        self._folder: Folder = open_folder(root, stores, create=create)
        self.location = f"{self._folder.location}/{NAME}"

    def read(self) -> dict[str, str] | None:
        """Names and types of the columns; None if no night has left them.

        Raises:
            SchemaError: The file is damaged.
        """
        try:
            found = json.loads(self._folder.read(NAME))
            return {str(name): str(kind) for name, kind in found.items()}
        except ObjectMissing:
            return None
        except (ValueError, AttributeError):
            raise SchemaError(
                f"{self.location} is not a JSON object of columns and types: mend or delete it"
            ) from None

    def keep(self, types: Mapping[str, str], known: Mapping[str, str] | None) -> bool:
        """Keep the columns for later nights.

        Args:
            types: Columns to be kept.
            known: Columns that `read` gave.

        Returns:
            False if another run has been faster, and its columns are to be read first.
        """
        if types == known:
            return True
        content = (json.dumps(dict(types), indent=2) + "\n").encode()
        if known is None:
            return self._folder.create(NAME, content)
        self._folder.write(NAME, content)
        return True


def merged(
    declared: Mapping[str, str] | None, known: Mapping[str, str] | None, *, where: str
) -> dict[str, str] | None:
    """The columns of a night: those of the nights before, and what ``--schema`` adds to them.

    Args:
        declared: Columns of ``--schema``; None without it.
        known: Columns of the nights before; None if there are none.
        where: Location of the known columns, for messages.

    Raises:
        SchemaError: The two disagree.
    """
    if declared is None or known is None:
        found = declared if known is None else known
        return None if found is None else dict(found)
    for name, kind in declared.items():
        if known.get(name, kind) != kind:
            raise SchemaError(
                f"--schema says {kind} for the column '{name}' where the nights before have "
                f"{known[name]} ({where}): readers of all nights would fail or change values; "
                "score the others again, or choose another root for --out"
            )
    return {**known, **declared}


def types_of(extra: pa.Schema) -> dict[str, str]:
    """Names and types of columns; one without any value may become text."""
    return {f.name: "string" if pa.types.is_null(f.type) else str(f.type) for f in extra}
