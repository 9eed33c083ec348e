"""Reading the lists that data sets come with, and finding the images that they name."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from handler.photo_folders import HIDDEN, reason_to_leave_out
from handler.values.limits import SUFFIXES
from train.datasets.table import DatasetError

LINK_TO_FOLDER = "a link to a folder, which is not followed"
LINK_TO_NOTHING = "a link to a file that is not there"
_HERE = Path()
# Folders in which programs keep copies of photos, beside those whose names begin with a dot.
_COPIES = frozenset(
    {
        *("thumbnails", "thumbnail", "thumbs", "thumb", "_thumbs", "_thumbnails"),
        *("$recycle.bin", "#recycle", "lost+found", ".trash"),
    }
)


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


def why_no_photo(file: Path, folder: Path) -> str | None:
    """The reason why a file below a folder is no photo of a data set, or None for a photo.

    Copies that programs keep are none: they have other bytes, so one could be in another split than
    its original without being found.

    Args:
        file: Path of the file.
        folder: Folder that was named; only what is below it counts.
    """
    inner = file.relative_to(folder)
    if any(part.lower() in _COPIES for part in inner.parts[:-1]):
        return "in a folder of thumbnails or of deleted files"
    if reason_to_leave_out(inner.parent.as_posix() + "/1.jpg") == HIDDEN and inner.parent != _HERE:
        return "in a hidden folder"
    if not is_image(file):
        return LINK_TO_FOLDER if file.is_dir() else "no image file"
    return "hidden file" if file.name.startswith(".") else None


def why_no_file(path: Path) -> str | None:
    """The reason why a path in a folder is no file that can be read, or None for a file."""
    if path.is_file():
        return None
    return LINK_TO_FOLDER if path.is_dir() else LINK_TO_NOTHING


def images_in(folder: Path) -> Iterator[Path]:
    """Photos anywhere below ``folder``, sorted; see `why_no_photo`."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file())
    return (p for p in files if why_no_photo(p, folder) is None)


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
