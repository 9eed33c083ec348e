"""Sorts more keys than memory holds: records go to files by the first bits of their keys.

A record is a key of 16 bytes and a number. The keys are digests, so the files fill evenly, and each
one is sorted in memory. Files have no name: the system removes them however the program ends.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import IO

import numpy as np
import numpy.typing as npt

KEY_BYTES = 16
# 12 MB to be sorted at a time, and 256 files for 130 million records.
_RECORDS_PER_FILE = 500_000
_MAX_BITS = 8
_KEY = np.dtype([("high", ">u8"), ("low", ">u8")])
RECORD = np.dtype([("high", "u8"), ("low", "u8"), ("number", "i8")])

Numbers = npt.NDArray[np.int64]


def key_of(text: str) -> bytes:
    """The key of a text, 16 bytes."""
    # Half of a surrogate pair, which JSON can contain, is a different text, too.
    data = text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=KEY_BYTES).digest()


def high_and_low(keys: Iterable[bytes]) -> npt.NDArray[np.void]:
    """Keys as two numbers each, an array with the fields ``high`` and ``low``."""
    return np.frombuffer(b"".join(keys), _KEY)


class KeySort:
    """Takes records in any order and gives them sorted; a context manager, since it owns files.

    Args:
        expected: Expected number of records; with far more, memory grows with them.
    """

    def __init__(self, expected: int) -> None:
        files = max(1, expected // _RECORDS_PER_FILE)
        self._bits = min(_MAX_BITS, (files - 1).bit_length())
        self._stack = ExitStack()
        self._files: list[IO[bytes]] = [
            self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - it is one
            for _ in range(1 << self._bits)
        ]

    def __enter__(self) -> KeySort:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def add(self, keys: Iterable[bytes], numbers: Numbers) -> None:
        """Take records.

        Args:
            keys: Keys of 16 bytes.
            numbers: One number for each key, int64 of shape n.
        """
        pairs = high_and_low(keys)
        records = np.empty(len(numbers), RECORD)
        records["high"], records["low"], records["number"] = pairs["high"], pairs["low"], numbers
        which = _first_bits(records["high"], self._bits)
        order = np.argsort(which, kind="stable")
        ends = np.cumsum(np.bincount(which, minlength=len(self._files)))
        for file, some in zip(self._files, np.split(records[order], ends[:-1]), strict=True):
            file.write(some.tobytes())

    def sorted(self) -> Iterator[npt.NDArray[np.void]]:
        """All records by key and then by number, one block after the other; equal keys in one."""
        for file in self._files:
            file.seek(0)
            records = np.frombuffer(file.read(), RECORD)
            file.truncate(0)
            yield records[np.lexsort((records["number"], records["low"], records["high"]))]


def starts_of_groups(records: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
    """Which of the sorted records have another key than the one before, bool of shape n."""
    first = np.ones(len(records), bool)
    high, low = records["high"], records["low"]
    first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    return first


def _first_bits(high: npt.NDArray[np.uint64], bits: int) -> npt.NDArray[np.int64]:
    if not bits:
        return np.zeros(len(high), np.int64)
    return (high >> np.uint64(64 - bits)).astype(np.int64)
