"""Reading the lists that data sets come with, and finding the images that they name."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from handler.values.limits import SUFFIXES
from train.datasets.table import DatasetError


def is_utf8(path: Path) -> bool:
    """Whether tables, split files and terminals can hold the path."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(name: str) -> str:
    r"""The name with invalid UTF-8 written as escapes: ``bad\xff.jpg``."""
    try:
        name_bytes = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a character, as JSON can have it: no byte of a file name
        name_bytes = name.encode("utf-8", "backslashreplace")
    return name_bytes.decode("utf-8", "backslashreplace")


def find_image(name: str, places: Sequence[Path]) -> Path | None:
    """The file called ``name`` (relative, either slash) in the first of the places that has it."""
    relative = PurePosixPath(name.strip().replace("\\", "/"))
    # A list must not lead out of the data set's own folder.
    if relative.is_absolute() or ".." in relative.parts or not relative.name:
        return None
    return next((place / relative for place in places if (place / relative).is_file()), None)


def is_image(path: Path) -> bool:
    """Whether ``path`` is named like an image; ``._1.jpg``, which macOS adds to zips, is not."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith("._")


def images_in(folder: Path) -> Iterator[Path]:
    """Image files anywhere below ``folder``, sorted."""
    return (p for p in sorted(folder.rglob("*")) if is_image(p) and p.is_file())


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Lines that are not empty, with their numbers from 1.

    Raises:
        DatasetError: The file cannot be read as text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"cannot read {path}: {error}") from None
    return [(n, line.strip()) for n, line in enumerate(text.splitlines(), start=1) if line.strip()]


def read_records(path: Path, *, quote: str = '"', delimiter: str = ",") -> list[dict[str, str]]:
    """The rows of a table with a header line, by column name (stripped, lower case).

    Missing cells are empty strings.

    Raises:
        DatasetError: The file cannot be read as text.
    """
    lines = [line for _, line in read_lines(path)]
    table = csv.reader(lines, quotechar=quote, delimiter=delimiter, skipinitialspace=True)
    try:
        header, *rows = [[cell.strip() for cell in row] for row in table]
    except (ValueError, csv.Error) as error:
        raise DatasetError(f"cannot read {path} as a table: {error}") from None
    names = [name.lower() for name in header]
    return [dict(zip(names, row + [""] * (len(names) - len(row)), strict=False)) for row in rows]


def header_of(path: Path, *, quote: str = '"', delimiter: str = ",") -> list[str]:
    """Column names of a table (stripped, lower case); empty if the file is not text."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            line = file.readline(10_000)
    except (OSError, UnicodeDecodeError):
        return []
    return [name.strip().strip(quote).lower() for name in line.split(delimiter)]


def number(cell: str) -> float | None:
    """A cell as a number, or None."""
    try:
        return float(cell)
    except ValueError:
        return None


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DatasetError: The file is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot read {path} as JSON: {error}") from None
