"""Types of columns in a Delta Lake table: what its readers read, and what a table already has.

Delta casts what is written to the type that a table has, and says nothing of a value that changes:
0.5 becomes 0, '007' becomes 7. Some types of Arrow it takes and its readers do not. So types are
compared before a run begins: a column has the table's type, is widened to it without loss, or is
refused by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pyarrow as pa

from handler.values.errors import VeaError

_WIDTH = {pa.int8(): 8, pa.int16(): 16, pa.int32(): 32, pa.int64(): 64}
_UNSIGNED = {pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64()}
_LONGEST = {pa.float32(): 16, pa.float64(): 32}  # bits of the integers that all have a place there
_SAME = frozenset({pa.bool_(), pa.date32(), pa.float32(), pa.float64(), *_WIDTH})


class DeltaTypeError(VeaError):
    """A Delta table cannot hold a column; the message is one line for people."""


def delta_columns(
    columns: Iterable[pa.Field], table: pa.Schema | None, *, where: str
) -> dict[str, pa.DataType]:
    """The types with which columns are committed, by their names.

    Args:
        columns: Columns of a run.
        table: Columns that the table has; None if there is no table yet.
        where: Location of the table, for messages.

    Raises:
        DeltaTypeError: A column has no type that the table, or its readers, can hold.
    """
    found = {}
    for column in columns:
        kind = _readable(column.type)
        if kind is None:
            raise DeltaTypeError(
                f"the column '{column.name}' holds {column.type}, which readers of Delta tables "
                "cannot read: convert it in the list, or leave it out with --keep"
            )
        if table is not None and column.name in table.names:
            there = _readable(table.field(column.name).type)
            if there is not None and not (pa.types.is_null(column.type) or _widens(kind, there)):
                raise DeltaTypeError(
                    f"the column '{column.name}' holds {column.type} where the table {where} has "
                    f"{there}, and values would change: give the list the table's type, leave the "
                    "column out with --keep, or choose another table"
                )
            kind = there or kind
        found[column.name] = kind
    return found


def nanoseconds(columns: Iterable[pa.Field]) -> list[str]:
    """Names of the columns of which single values may be too precise for a Delta table."""
    return [c.name for c in columns if pa.types.is_timestamp(c.type) and c.type.unit == "ns"]


def convert(table: pa.Table, types: dict[str, pa.DataType]) -> pa.Table:
    """Cast columns; a value that would change is an error.

    Args:
        table: Rows of a run.
        types: Types of `delta_columns`.

    Raises:
        DeltaTypeError: A value has no place in its column's type.
    """
    for place, column in enumerate(table.schema):
        if (kind := types[column.name]) != column.type:
            try:
                cast = table[place].cast(kind)
            except pa.ArrowException as error:
                said = " ".join(str(error).split())[:200]
                raise DeltaTypeError(
                    f"the column '{column.name}' cannot be committed as {kind}: {said}"
                ) from None
            table = table.set_column(place, pa.field(column.name, kind), cast)
    return table


def _readable(kind: pa.DataType) -> pa.DataType | None:
    """The type that a column has in a table; None if there is none for all of its values."""
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", "UTC" if kind.tz else None)
    if _is_list(kind) or pa.types.is_struct(kind):
        return _readable_nested(kind)
    if kind in _SAME or (pa.types.is_decimal(kind) and kind.precision <= 38 and kind.scale >= 0):
        return kind
    same_values = [plain for is_like, plain in _LIKE if is_like(kind)]
    return _UNSIGNED.get(kind) or next(iter(same_values), None)


def _readable_nested(kind: pa.DataType) -> pa.DataType | None:
    if _is_list(kind):
        inner = _readable_inside(kind.value_type)
        return None if inner is None else pa.list_(inner)
    fields = [(field.name, _readable_inside(field.type)) for field in kind]
    if not fields or any(inner is None for _, inner in fields):
        return None
    return pa.struct([pa.field(name, inner) for name, inner in fields])


def _readable_inside(kind: pa.DataType) -> pa.DataType | None:
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return None  # single values cannot be checked before the run
    return _readable(kind)


def _is_list(kind: pa.DataType) -> bool:
    return any(
        is_like(kind)
        for is_like in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    )


_LIKE: tuple[tuple[Callable[[pa.DataType], bool], pa.DataType], ...] = (
    (pa.types.is_string, pa.string()),
    (pa.types.is_large_string, pa.string()),
    (pa.types.is_string_view, pa.string()),
    (pa.types.is_null, pa.string()),
    (pa.types.is_binary, pa.binary()),
    (pa.types.is_large_binary, pa.binary()),
    (pa.types.is_binary_view, pa.binary()),
    (pa.types.is_fixed_size_binary, pa.binary()),
    (pa.types.is_float16, pa.float32()),
    (pa.types.is_date64, pa.date32()),
)


def _widens(kind: pa.DataType, wider: pa.DataType) -> bool:
    """Whether every value of one type is a value of the other."""
    if kind == wider:
        return True
    if _is_list(kind) and _is_list(wider):
        return _widens(kind.value_type, wider.value_type)
    if pa.types.is_struct(kind) and pa.types.is_struct(wider):
        names = [[field.name for field in one] for one in (kind, wider)]
        return names[0] == names[1] and all(
            _widens(field.type, other.type) for field, other in zip(kind, wider, strict=True)
        )
    if kind in _WIDTH:
        return _WIDTH[kind] <= _WIDTH.get(wider, _LONGEST.get(wider, 0))
    return kind == pa.float32() and wider == pa.float64()
