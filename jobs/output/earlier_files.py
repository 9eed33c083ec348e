"""The files in which a machine keeps the answers of earlier runs while it copies from them.

    answers.arrow            one row for each answer, in the order in which they are read
    locations.keys/.rows     digests of locations, sorted, and the rows that they lead to
    contents.keys/.rows      the same for digests of contents

Files are mapped into memory, and sorting works on one piece at a time, so memory does not grow with
the number of answers. They lie in a folder of the user's own in ``TMPDIR``, named after the run,
and are made by one process while others of the machine wait.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from handler.values.errors import VeaError
from jobs.storage.key_sort import KeySort, high_and_low, starts_of_groups

ANSWERS = "answers.arrow"
_WEEK = 7 * 24 * 60 * 60.0


class EarlierFilesError(VeaError):
    """The files cannot be made; the message is one line for people."""


class SortedKeys:
    """Keys of 16 bytes, each with the number of a row; the files are mapped, not read.

    Args:
        folder: Folder of the files.
        name: Name of the files.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._high = _mapped(folder / f"{name}.keys", np.uint64)
        self._rows = _mapped(folder / f"{name}.rows", _ROW)

    def __len__(self) -> int:
        return len(self._high)

    def find(self, key: bytes) -> int | None:
        """The row of a key; None if it is unknown."""
        high, low = high_and_low([key])[0].tolist()
        place = int(np.searchsorted(self._high, np.uint64(high)))
        while place < len(self._high) and self._high[place] == high:
            if self._rows[place]["low"] == low:
                return int(self._rows[place]["row"])
            place += 1
        return None

    @staticmethod
    def write(folder: Path, name: str, keys: KeySort) -> None:
        """Write the files; of equal keys the one with the largest row stays."""
        with (
            (folder / f"{name}.keys").open("wb") as high,
            (folder / f"{name}.rows").open("wb") as rest,
        ):
            for records in keys.sorted():
                last = np.roll(starts_of_groups(records), -1)
                kept = records[last]
                high.write(kept["high"].tobytes())
                rows = np.empty(len(kept), _ROW)
                rows["low"], rows["row"] = kept["low"], kept["number"]
                rest.write(rows.tobytes())


_ROW = np.dtype([("low", "u8"), ("row", "i8")])


def _mapped(path: Path, kind: Any) -> npt.NDArray[Any]:
    if not path.stat().st_size:  # an empty file cannot be mapped
        return np.zeros(0, kind)
    return np.memmap(path, kind, "r")


class AnswersWriter:
    """Writes answers, in batches of rows.

    Args:
        folder: Folder of the files.
        columns: Columns of an answer.
    """

    def __init__(self, folder: Path, columns: pa.Schema) -> None:
        self._columns = columns
        self._file = pa.ipc.new_file(str(folder / ANSWERS), columns)
        self.rows = 0

    def add(self, table: pa.Table) -> None:
        """Append rows."""
        for batch in table.select(self._columns.names).combine_chunks().to_batches():
            self._file.write_batch(batch)
            self.rows += batch.num_rows

    def close(self) -> None:
        """Complete the file."""
        self._file.close()


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    """The folder of this name, made by whoever comes first.

    Args:
        name: Name that says what is in the folder.
        make: Function that fills a new folder.

    Raises:
        EarlierFilesError: There is no room, or the folder is not the user's own.
    """
    try:
        root = _own_folder()
        place, unfinished = root / name, root / f"{name}.unfinished"
        with (root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not place.is_dir():
                _sweep(root)
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.mkdir()
                make(unfinished)
                unfinished.rename(place)
    except OSError as error:
        raise EarlierFilesError(
            f"the answers of earlier runs cannot be kept in {tempfile.gettempdir()}: "
            f"{error.strerror or error}; TMPDIR names another folder"
        ) from None
    return place


def remove_earlier(name: str) -> None:
    """Remove the folder of a run, if there is one; processes that use its files go on."""
    with suppress(OSError, EarlierFilesError):
        root = _own_folder(make=False)
        for ending in ("", ".unfinished"):
            shutil.rmtree(root / f"{name}{ending}", ignore_errors=True)
        (root / f"{name}.lock").unlink(missing_ok=True)


def _own_folder(*, make: bool = True) -> Path:
    """A folder that nobody else can write to or read."""
    root = Path(tempfile.gettempdir()) / f"vea-since-{os.getuid()}"
    if make:
        root.mkdir(mode=0o700, exist_ok=True)
    found = root.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise EarlierFilesError(
            f"{root} is not a folder of yours alone: remove it, or set TMPDIR to another folder"
        )
    return root


def _sweep(root: Path) -> None:
    """Remove what runs have left that were never finished."""
    oldest = time.time() - _WEEK
    for path in root.iterdir():
        if path.is_dir() and path.stat().st_mtime < oldest:
            remove_earlier(path.name)
