"""What a reader of one layout finds: images with their labels, and what it had to leave out.

Nothing is hashed, split or decoded here; the helpers below read the lists that data sets come with
and find the images that they name.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from handler.values.emotions import EKMAN, MIKELS, POLARITY, Wheel
from handler.values.limits import SUFFIXES
from train.datasets.table import NOT_THERE, DatasetError

_WHEELS = (MIKELS, EKMAN, POLARITY)


@dataclass(frozen=True)
class Row:
    """One labelled image.

    Attributes:
        path: the file.
        label: on the listing's wheel.
        split: ``train``, ``val``, ``test``, or empty where the data set gives none.
        distribution: fractions of people's answers in the wheel's order, sum 1.
        agreement: how many people gave the label.
    """

    path: Path
    label: int
    split: str = ""
    distribution: tuple[float, ...] | None = None
    agreement: int | None = None


@dataclass
class Listing:
    """The images of one data set.

    Attributes:
        layout: the layout in words, for people.
        root: the folder that names in ``refused`` are relative to.
        wheel: the emotions that the data set is labelled with.
        rows: its images, in an order that depends on names alone.
        refused: what was left out, names by reason.
        notes: what else a person should know.
    """

    layout: str
    root: Path
    wheel: Wheel
    rows: list[Row] = field(default_factory=list)
    refused: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def refuse(self, reason: str, name: str | Path) -> None:
        """Count what is left out; a path is told relative to the root, and as it can be printed."""
        if isinstance(name, Path):
            name = name.relative_to(self.root).as_posix()
        self.refused.setdefault(reason, []).append(printable(name))

    def add_named(
        self,
        name: str,
        places: Sequence[Path],
        label: int,
        *,
        split: str = "",
        distribution: tuple[float, ...] | None = None,
        agreement: int | None = None,
    ) -> None:
        """Add the image that a list calls ``name``, or count it as not there."""
        path = find_image(name, places)
        if path is None:
            self.refuse(NOT_THERE, name)
        else:
            self.rows.append(Row(path, label, split, distribution, agreement))


def is_utf8(path: Path) -> bool:
    """Whether tables, split files and terminals can hold the path."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(name: str) -> str:
    r"""The name with what is no UTF-8 in it spelled out: ``bad\xff.jpg``."""
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
    """Whether ``path`` is named like an image; ``._1.jpg``, left in zips by macOS, is none."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith("._")


def images_in(folder: Path) -> Iterator[Path]:
    """Image files anywhere below ``folder``, sorted."""
    return (p for p in sorted(folder.rglob("*")) if is_image(p) and p.is_file())


def own_wheel(names: Iterable[str], asked: Wheel | None = None) -> Wheel:
    """The wheel that knows the most of the names; among equals the asked one, then the largest."""
    spellings = set(names)
    known = {wheel.name: sum(map(wheel.knows, spellings)) for wheel in _WHEELS}
    best = [wheel for wheel in _WHEELS if known[wheel.name] == max(known.values())]
    return asked if asked in best else best[0]


def alphabetical_index(wheel: Wheel, number: int) -> int | None:
    """The label that a folder-order number means: 0 is the alphabetically first emotion."""
    names = sorted(wheel.labels)
    return wheel.index(names[number]) if 0 <= number < len(names) else None


def fractions(votes: Sequence[float]) -> tuple[float, ...] | None:
    """Votes or probabilities scaled to sum 1, or None if there are none or negative ones."""
    total = sum(votes)
    if not total > 0 or min(votes) < 0 or total == float("inf"):
        return None
    return tuple(vote / total for vote in votes)


def note_ties(listing: Listing) -> None:
    """Say how many labels rest on the order of the wheel alone."""
    ties = sum(
        row.distribution is not None and row.distribution.count(max(row.distribution)) > 1
        for row in listing.rows
    )
    if ties:
        listing.notes.append(
            f"{ties} images have more than one most frequent emotion: "
            "the first in the wheel's order is their label"
        )


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Lines that are not empty, with their numbers from 1.

    Raises:
        DatasetError: the file cannot be read as text.
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
        DatasetError: the file cannot be read as text.
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
    """Column names of a table (stripped, lower case); empty if the file is no text."""
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
        DatasetError: it is none.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot read {path} as JSON: {error}") from None
