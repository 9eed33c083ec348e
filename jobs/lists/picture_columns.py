"""Which columns of a parquet file hold pictures, rather than names of pictures.

A picture is a binary value, or a struct of ``bytes`` and ``path`` as data sets of Hugging Face have
it. A binary column may also hold names, since some programs do not mark text as text; its first
value decides. Where no name suggests a column of pictures, that value must begin like a photo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from handler.photo_folders import starts_like_a_photo
from jobs.lists.columns import IMAGE_COLUMNS, ListError

# As img2dataset names its column of pictures, by their format.
_BY_FORMAT = ("jpg", "jpeg", "png", "webp")
_PREFERRED = ("image", "img", *_BY_FORMAT)
BYTES, PATH = "bytes", "path"
_FEW = 8  # rows


@dataclass(frozen=True)
class PictureColumn:
    """A column of pictures.

    Attributes:
        name: Name of the column.
        is_struct: Whether it is a struct of bytes and a path, and not the bytes themselves.
        has_path: Whether the struct has a path.
    """

    name: str
    is_struct: bool
    has_path: bool


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type of the values, without the way in which they are stored."""
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    return kind


def chosen_pictures(
    location: str, file: pq.ParquetFile, column: str | None
) -> PictureColumn | None:
    """The column whose pictures are scored; None if the file is a list of names.

    Args:
        location: Location of the file, for messages.
        file: The file.
        column: Column that the user asks for.

    Raises:
        ListError: There are several columns of pictures, and none is asked for.
    """
    names = file.schema_arrow.names
    if column is not None:
        asked = _named(names, column)
        return None if asked is None else _pictures(file, asked)
    for wanted in (*_PREFERRED, *IMAGE_COLUMNS):
        name = _named(names, wanted)
        found = None if name is None else _pictures(file, name)
        # A text column that is named like one of names of images holds these.
        if found or (name is not None and wanted in IMAGE_COLUMNS):
            return found
    several = [found for name in names if (found := _surely_pictures(file, name))]
    if len(several) > 1:
        raise ListError(
            f"the list {location} has more than one column of pictures: "
            f"{', '.join(found.name for found in several)}; name one with --column"
        )
    return several[0] if several else None


def columns_of_pictures(file: pq.ParquetFile) -> set[str]:
    """Names of all columns that hold photos; bytes of another kind, such as digests, are none."""
    return {name for name in file.schema_arrow.names if _surely_pictures(file, name)}


def only_nulls(file: pq.ParquetFile, path: str) -> bool:
    """Whether the file's end says that a column has rows and not one value.

    Args:
        file: The file.
        path: Name of the column, such as ``image.bytes`` for a part of a struct.
    """
    groups = [file.metadata.row_group(n) for n in range(file.metadata.num_row_groups)]
    places = range(groups[0].num_columns if groups else 0)
    chunks = [
        group.column(place)
        for place in places
        if groups[0].column(place).path_in_schema == path
        for group in groups
    ]
    return bool(chunks) and all(
        (counts := chunk.statistics) is not None
        and counts.has_null_count
        and counts.null_count == chunk.num_values
        for chunk in chunks
    )


def typed_pictures(schema: pa.Schema, name: str) -> PictureColumn | None:
    """A column that may hold pictures, by its type alone.

    Args:
        schema: Columns of the file.
        name: Name of the column.
    """
    place = schema.get_field_index(name)
    if place < 0:
        return None
    kind = plain_type(schema.field(place).type)
    if pa.types.is_struct(kind):
        inner = {item.name: item.type for item in kind}
        if BYTES in inner and _is_binary(inner[BYTES]):
            return PictureColumn(name, is_struct=True, has_path=_is_text(inner.get(PATH)))
        return None
    return PictureColumn(name, is_struct=False, has_path=False) if _is_binary(kind) else None


def _pictures(file: pq.ParquetFile, name: str) -> PictureColumn | None:
    found = typed_pictures(file.schema_arrow, name)
    if found is None or found.is_struct or name.casefold() in _BY_FORMAT:
        return found
    first = _first(file, name)
    return None if first is None or _reads_as_text(first) else found


def _surely_pictures(file: pq.ParquetFile, name: str) -> PictureColumn | None:
    found = typed_pictures(file.schema_arrow, name)
    if found is None or found.is_struct:
        return found
    return found if starts_like_a_photo(_first(file, name) or b"") else None


def _first(file: pq.ParquetFile, name: str) -> bytes | None:
    """The first value that is not empty; None if there is none."""
    for batch in file.iter_batches(_FEW, columns=[name], use_threads=False):
        for value in batch.column(0):
            if value.is_valid and (data := value.as_py()):
                return bytes(data)
    return None


def _reads_as_text(data: bytes) -> bool:
    try:
        return "\0" not in data.decode()
    except UnicodeDecodeError:
        return False


def _named(names: Sequence[str], wanted: str) -> str | None:
    if wanted in names:
        return wanted
    same = [name for name in names if name.casefold() == wanted.casefold()]
    return same[0] if len(same) == 1 else None


def _is_binary(kind: pa.DataType) -> bool:
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    return any(test(kind) for test in tests)


def _is_text(kind: pa.DataType | None) -> bool:
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return kind is not None and any(test(kind) for test in tests)
