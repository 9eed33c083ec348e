"""Which column of a list names the image, and which others pass through into the result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from handler.values.errors import VeaError

IMAGE_COLUMNS = ("image", "image_url", "url", "uri", "path", "key", "s3_key", "file")
"""Usual names of the column of images, in order of preference."""

_SHOWN = 20
_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".heic", ".avif")


class ListError(VeaError):
    """The list of images cannot be read; the message is one line for people."""


def image_column(location: str, names: Sequence[str], column: str | None) -> str:
    """The column that names the image.

    Args:
        location: Location of the list, for messages.
        names: Names of the list's columns.
        column: Column that the user asks for; None for the first usual one.

    Raises:
        ListError: The list does not have the column.
    """
    wanted = IMAGE_COLUMNS if column is None else (column,)
    for name in wanted:
        if name in names:
            return name
    for name in wanted:
        same = [found for found in names if found.casefold() == name.casefold()]
        if len(same) == 1:
            return same[0]
    missing = f"no column '{column}'" if column is not None else "no column of images"
    no_header = any("/" in name or name.lower().endswith(_ENDINGS) for name in names)
    advice = (
        "the first line has to name the columns, such as 'bucket,key,size' for an S3 Inventory"
        if no_header and column is None
        else "name one with --column"
    )
    raise ListError(f"the list {location} has {missing}: {_those(names)}; {advice}")


def kept_columns(
    location: str, names: Sequence[str], image: str, keep: Sequence[str] | None
) -> list[str]:
    """The columns that pass through.

    Args:
        location: Location of the list, for messages.
        names: Names of the list's columns.
        image: Column that names the image.
        keep: Columns that the user asks for, in this order; None for all but ``image`` and those
            without a name, as spreadsheets and row numbers produce them.

    Raises:
        ListError: A column is missing, is present twice, or cannot be a name.
    """
    if keep is None:
        keep = [name for name in names if name not in (image, "")]
    for name in keep:
        if name not in names:
            raise ListError(f"the list {location} has no column '{name}' to keep: {_those(names)}")
    taken = list(dict.fromkeys(keep))
    for name in dict.fromkeys([image, *taken]):
        if names.count(name) > 1:
            raise ListError(
                f"the list {location} has more than one column '{name}': rename them, or name "
                "others with --keep"
            )
        if not name.isprintable():
            raise ListError(
                f"the list {location} has a column whose name cannot be printed, {name!r}: rename "
                "it, or name others with --keep"
            )
    return taken


def _those(names: Iterable[str]) -> str:
    shown = [" ".join(name.split()) for name in names]
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return f"it has {', '.join(shown[:_SHOWN]) or 'no columns'}{more}"
