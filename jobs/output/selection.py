"""Which rows of results a person wants removed: by values of columns, or by images.

The same selection works on the parquet files of a run and on a Delta table, so both lose the same
rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc

from handler.values.errors import VeaError

_IMAGE = "image"
_BOOLEANS = {"true": True, "false": False}


class SelectionError(VeaError):
    """Rows cannot be selected in this way; the message is one line for people."""


@dataclass(frozen=True)
class Selection:
    """Rows that have all of the given values, or whose image is one of the given images.

    Attributes:
        values: Values by column, as text.
        images: Images as the list spelled them.
    """

    values: tuple[tuple[str, str], ...] = ()
    images: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, where: Iterable[str], images: Iterable[str]) -> Selection:
        """The selection of ``COLUMN=VALUE`` conditions, or of images.

        Raises:
            SelectionError: Neither or both are given, or a condition has another form.
        """
        values = []
        for condition in where:
            column, equals, value = condition.partition("=")
            if not column or not equals:
                raise SelectionError(f"'{condition}' is no condition: expected COLUMN=VALUE")
            values.append((column, value))
        chosen = frozenset(images)
        if bool(values) == bool(chosen):
            raise SelectionError("name the rows either by --where or by images")
        return cls(tuple(values), chosen)

    @property
    def columns(self) -> list[str]:
        """Columns that decide."""
        return [column for column, _ in self.values] or [_IMAGE]

    def fits(self, schema: pa.Schema) -> bool:
        """Whether a table has all columns that decide."""
        return set(self.columns) <= set(schema.names)

    def mask(self, table: pa.Table) -> pa.ChunkedArray:
        """Whether each row is selected, bool without null.

        Raises:
            SelectionError: A value is not of its column's type.
        """
        if self.images:
            return pc.is_in(table[_IMAGE], pa.array(sorted(self.images), table[_IMAGE].type))
        matches = (
            pc.fill_null(pc.equal(table[column], _typed(table.schema.field(column), value)), False)
            for column, value in self.values
        )
        return reduce(pc.and_, matches)


def _typed(field: pa.Field, text: str) -> pa.Scalar:
    kind = field.type
    try:
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return pa.scalar(text, kind)
        if pa.types.is_integer(kind):
            return pa.scalar(int(text), kind)
        if pa.types.is_boolean(kind):
            return pa.scalar(_BOOLEANS[text.lower()], kind)
    except (ValueError, KeyError, OverflowError, pa.ArrowException):
        raise SelectionError(
            f"'{text}' is no value of the column '{field.name}', whose type is {kind}"
        ) from None
    raise SelectionError(
        f"rows cannot be selected by the column '{field.name}' of type {kind}: expected text, a "
        "whole number, or true and false"
    )
