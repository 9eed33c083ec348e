"""JSON lists: one object a line, whose keys are the columns.

The file is read through once to find the type of each column: booleans, 64-bit integers or
floating-point numbers if it has nothing else, text in all other cases, such as that of integers too
long for the floating-point numbers beside them. NaN among integers is null. In a column of text, a
value that is not text, such as a list, stays the JSON that it was.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import pyarrow as pa

from jobs.lists.columns import IMAGE_COLUMNS, ListError, image_column, kept_columns
from jobs.lists.snapshot import ListSnapshot
from jobs.values.chunks import Entry

# Objects whose keys are values, such as users' ids, would give a column for each.
_MAX_COLUMNS = 1_000
_INT64 = range(-(2**63), 2**63)
# Halves of surrogate pairs, which JSON can contain and UTF-8 cannot.
_SURROGATE = re.compile("[\ud800-\udfff]")


class JsonList:
    """Objects, one a line.

    An object without the column of images is a row with the image ``""``; other keys that an
    object lacks are null.

    Args:
        copy: Local copy of the list.
        column: Column of the images; None for the first usual one.
        keep: Columns that pass through; None for all.
        text: Columns that are text whatever they hold.

    Raises:
        ListError: A line holds no object, or no object has these columns.
    """

    def __init__(
        self,
        copy: ListSnapshot,
        *,
        column: str | None,
        keep: Sequence[str] | None,
        text: Collection[str] = (),
    ) -> None:
        self._copy = copy
        types = self._types()
        if not types:  # an empty list has no columns either
            types = {name: set() for name in (column or IMAGE_COLUMNS[0], *(keep or ()))}
        names = list(types)
        self.column = image_column(copy.location, names, column)
        kept = kept_columns(copy.location, names, self.column, keep)
        self.extra = pa.schema(
            [
                pa.field(name, pa.string() if name in text else _arrow_type(types[name]))
                for name in kept
            ]
        )

    def entries(self) -> Iterator[Entry]:
        """One for each object, in the list's order."""
        converters = [(item.name, _converter(item.type)) for item in self.extra]
        for record in self._records():
            image = record.get(self.column)
            yield Entry(
                "" if image is None else _text(image).strip(),
                tuple([convert(record.get(name)) for name, convert in converters]),
            )

    def _types(self) -> dict[str, set[type]]:
        found: dict[str, set[type]] = {}
        for record in self._records():
            for name, value in record.items():
                types = found.get(name)
                if types is None:
                    types = found[name] = set()
                types.add(_type(value))
            if len(found) > _MAX_COLUMNS:
                raise ListError(
                    f"the list {self._copy.location} has more than {_MAX_COLUMNS} different keys: "
                    "each would become a column"
                )
        return found

    def _records(self) -> Iterator[dict[str, Any]]:
        with self._copy.text() as text:
            for number, line in enumerate(text, 1):
                if not line.strip():
                    continue
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError):
                    record = None
                if not isinstance(record, dict):
                    raise ListError(
                        f"line {number} of the list {self._copy.location} is not a JSON object: "
                        "expected one on each line"
                    )
                yield record


class _Long:
    """An integer of 64 bits that a floating-point number would round, as it would an id."""


class _NotANumber:
    """NaN, which programs write where an integer is missing."""


def _type(value: Any) -> type:
    if type(value) is int:
        if value not in _INT64:
            return str
        return int if int(float(value)) == value else _Long
    return _NotANumber if isinstance(value, float) and math.isnan(value) else type(value)


def _arrow_type(types: set[type]) -> pa.DataType:
    types = types - {type(None)}
    if types == {bool}:
        return pa.bool_()
    if types & {int, _Long} and types <= {int, _Long, _NotANumber}:
        return pa.int64()
    if types and types <= {int, float, _NotANumber}:
        return pa.float64()
    return pa.string()


def _converter(kind: pa.DataType) -> Callable[[Any], Any]:
    if pa.types.is_string(kind):
        return lambda value: None if value is None else _text(value)
    if pa.types.is_floating(kind):
        return lambda value: None if value is None else float(value)
    if pa.types.is_integer(kind):
        return lambda value: value if type(value) is int else None
    return lambda value: value


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)
