"""The distinct images of a list, for a run that scores each of them once.

Two rows name the same image if their locations are the same text; every picture inside a file is an
image of its own. The distinct images are numbered in the order in which they are first named, so
their numbers follow from the list alone. The numbers of all rows lie in a file without a name,
8 bytes for each row; memory holds a block of them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from jobs.lists.image_list import ImageList
from jobs.storage.key_sort import KeySort, Numbers, key_of, starts_of_groups
from jobs.values.chunks import Entry
from jobs.values.locations import resolve

_BLOCK = 65_536


@dataclass(frozen=True)
class DistinctImages:
    """A list without the rows that name an image again.

    Attributes:
        rows: Number of distinct images.
        listed: The list with all its rows.
        numbers: Number of each row's image, int64 of the length of the list.
        repeated: Whether an image is named more than once, bool of length ``rows``.
    """

    rows: int
    listed: ImageList
    numbers: Numbers = field(repr=False)
    repeated: npt.NDArray[np.bool_] = field(repr=False)

    def __iter__(self) -> Iterator[Entry]:
        """The first row of each image, in the order of their numbers."""
        known = 0
        for entry, number in zip(self.listed, self._all_numbers(), strict=True):
            if number == known:
                known += 1
                yield entry

    def _all_numbers(self) -> Iterator[int]:
        for start in range(0, len(self.numbers), _BLOCK):
            yield from self.numbers[start : start + _BLOCK].tolist()


@contextmanager
def find_distinct(images: ImageList) -> Iterator[DistinctImages]:
    """Number the images of a list; the numbers live as long as the context.

    Args:
        images: The list.
    """
    with ExitStack() as files:
        numbers = _on_disk(files, images.rows, np.int64)
        with KeySort(images.rows) as keys:
            locations = (_location(*item, images.folder) for item in enumerate(images))
            start = 0
            while some := [key_of(location) for location in islice(locations, _BLOCK)]:
                keys.add(some, np.arange(start, start + len(some)))
                start += len(some)
            for records in keys.sorted():
                first = starts_of_groups(records)
                # The place of the first record of each record's group.
                leader = np.maximum.accumulate(np.where(first, np.arange(len(records)), 0))
                numbers[records["number"]] = records["number"][leader]
        rows = 0
        repeated = _on_disk(files, images.rows, np.bool_)
        for start in range(0, images.rows, _BLOCK):
            # Here are the first positions of images; in earlier blocks already their numbers.
            block = numbers[start : start + _BLOCK]
            again = block != np.arange(start, start + len(block))
            leaders = np.array(block[again])
            block[~again] = np.arange(rows, rows + np.count_nonzero(~again))
            rows += int(np.count_nonzero(~again))
            block[again] = numbers[leaders]
            repeated[block[again]] = True
        yield DistinctImages(rows, images, numbers, repeated[:rows])


def _location(place: int, entry: Entry, folder: str) -> str:
    # Every row of a file that holds pictures is a picture of its own.
    return resolve(entry.image, folder) if entry.inside is None else f"\0{place}"


def _on_disk(files: ExitStack, length: int, kind: Any) -> Any:
    """An array of zeros in a file without a name."""
    file = files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - it is one
    if not length:  # an empty file cannot be mapped
        return np.zeros(0, kind)
    return np.memmap(file, kind, "w+", shape=(length,))
