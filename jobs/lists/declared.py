"""The columns that a list is declared to have, so that the results of many nights are one table.

A night's list shows the types of its own values alone: integers tonight, a fraction tomorrow, and
on a night without values nothing at all. Where columns are declared, by ``--schema`` or by the
nights before, every night has these columns with these types. A value that has no place in its
column's type is refused; a column of text takes every plain value as text. Columns that are not
declared are left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import pyarrow as pa

from jobs.lists.columns import ListError
from jobs.storage.folders import ObjectMissing, open_folder
from jobs.storage.stores import Stores
from jobs.values.chunks import Entry

Types = Mapping[str, str]
"""Names of columns and their types, as Arrow spells them: ``string``, ``int64``, ``double``, ..."""


class ListRows(Protocol):
    """A list of one of the formats."""

    @property
    def column(self) -> str | None:
        """Column that names the image."""

    @property
    def extra(self) -> pa.Schema:
        """The columns that pass through."""

    def entries(self) -> Iterator[Entry]:
        """One for each row, in the list's order."""


def read_schema(location: str, stores: Stores) -> dict[str, str]:
    """Read a file of declared columns: a JSON object of names and types.

    Args:
        location: Path or ``s3://bucket/key``.
        stores: Clients of the object stores.

    Raises:
        ListError: There is no such file, or it says something else.
    """
    folder, _, name = location.rpartition("/")
    try:
        found = json.loads(
            open_folder(folder or ("/" if "/" in location else "."), stores).read(name)
        )
        types = {str(column): str(kind) for column, kind in found.items()}
    except ObjectMissing:
        raise ListError(f"--schema {location}: there is no such file") from None
    except (ValueError, AttributeError):
        raise ListError(
            f'--schema {location} is not a JSON object of columns and types, such as {{"post": '
            '"int64"}'
        ) from None
    for column, kind in types.items():
        if alias(kind) is None:
            raise ListError(
                f"--schema {location}: '{kind}' of the column '{column}' is no type: expected "
                "string, int64, double, bool, date32 or timestamp[us]"
            )
    return types


def alias(kind: str) -> pa.DataType | None:
    """The type of a name; None if it is none, or one that Arrow spells but cannot read."""
    try:
        return pa.type_for_alias(kind)
    except ValueError:
        return None


class DeclaredList:
    """A list with the declared columns in place of its own.

    Args:
        rows: The list.
        types: Declared columns.
        location: Location of the list, for messages.
        source: Name of what declares the columns, for messages.

    Attributes:
        column: Column that names the image.
        extra: Declared columns, in the order of their declaration.
        left_out: Names of the list's columns that are not declared.

    Raises:
        ListError: A column of the list has a type that cannot become the declared one.
    """

    def __init__(self, rows: ListRows, types: Types, *, location: str, source: str) -> None:
        self._rows = rows
        self.column = rows.column
        self._location = location
        self._source = source
        own = rows.extra
        self.left_out = [name for name in own.names if name not in types]
        fields, self._columns = [], []
        for name, declared in types.items():
            place = own.get_field_index(name)
            kind = pa.null() if place < 0 else own.field(place).type
            wanted = kind if str(kind) == declared else alias(declared)
            convert = None if wanted is None else _converter(kind, wanted)
            if wanted is None or convert is None:
                raise ListError(
                    f"the list {location} has {kind} in the column '{name}' where {source} says "
                    f"{declared}"
                )
            fields.append(pa.field(name, wanted))
            self._columns.append((name, place, convert))
        self.extra = pa.schema(fields)

    def entries(self) -> Iterator[Entry]:
        """One for each row, with its values in the declared types."""
        for number, entry in enumerate(self._rows.entries(), 1):
            yield replace(entry, extra=tuple(self._values(number, entry.extra)))

    def _values(self, number: int, extra: Sequence[Any]) -> Iterator[Any]:
        for (name, place, convert), field in zip(self._columns, self.extra, strict=True):
            value = None if place < 0 else extra[place]
            try:
                yield None if value is None else convert(value)
            except (ValueError, OverflowError):
                raise ListError(
                    f"row {number} of the list {self._location} has {str(value)[:50]!r} in the "
                    f"column '{name}' where {self._source} says {field.type}"
                ) from None


def _converter(kind: pa.DataType, wanted: pa.DataType) -> Callable[[Any], Any] | None:
    """What turns values of one type into another without loss; None if nothing does."""
    if kind == wanted or pa.types.is_null(kind):
        return lambda value: value
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    convert: Callable[[Any], Any] | None = None
    if pa.types.is_string(wanted) and (text or number or pa.types.is_boolean(kind)):
        convert = _text
    elif pa.types.is_integer(wanted) and (text or number):
        convert = partial(_integer, wanted=wanted)
    elif pa.types.is_float64(wanted) and (text or number):
        convert = _fraction
    elif pa.types.is_boolean(wanted) and text:
        convert = _boolean
    return convert


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _integer(value: Any, wanted: pa.DataType) -> int:
    found = int(value)
    if not isinstance(value, str) and found != value:
        raise ValueError
    pa.scalar(found, wanted)  # refuses what is out of range
    return found


def _fraction(value: Any) -> float:
    found = float(value)
    if isinstance(value, int) and int(found) != value:
        raise ValueError
    return found


def _boolean(text: str) -> bool:
    known = {"true": True, "false": False}
    if text.strip().lower() not in known:
        raise ValueError
    return known[text.strip().lower()]
