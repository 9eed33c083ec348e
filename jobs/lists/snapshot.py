"""A private copy of a list: what is scored is what was hashed, even if the list is replaced.

The copy is a file without a name, which the system removes however the program ends. Every reader
has its own position, so an unfinished reading does not affect the next one. Text is decompressed:
its first bytes show whether it is gzip, zstd or plain.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from jobs.lists.columns import ListError
from jobs.storage.stores import Stores
from jobs.values.locations import ObjectLocation, is_in_store

_BLOCK = 1024 * 1024
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
# pzstd begins with a skippable frame, whose first byte is from 0x50 to 0x5f.
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"


@dataclass(frozen=True)
class ListSnapshot:
    """The bytes of a list.

    Attributes:
        location: Location of the list, as the user gave it.
        sha256: SHA-256 of the list's bytes, hexadecimal.
    """

    location: str
    sha256: str
    _file: IO[bytes] = field(repr=False, compare=False)

    def binary(self) -> io.BufferedReader:
        """A new reader of the bytes as they are."""
        return io.BufferedReader(_Reading(self._file), _BLOCK)

    @contextmanager
    def text(self, *, newline: str | None = None) -> Iterator[IO[str]]:
        """A new reader of the decompressed text, without a byte order mark.

        Args:
            newline: Line ends, as for `open`.

        Raises:
            ListError: Raised inside the context, if the text is not UTF-8 or is damaged.
        """
        try:
            with io.TextIOWrapper(self._unpacked(), encoding="utf-8-sig", newline=newline) as text:
                yield text
        except UnicodeDecodeError:
            raise ListError(f"the list {self.location} is not UTF-8 text") from None
        except (EOFError, OSError, zlib.error, pa.ArrowException) as error:
            line = " ".join(str(error).split())
            raise ListError(f"the list {self.location} is damaged: {line}") from None

    def _unpacked(self) -> Any:
        packed = self.binary()
        start = packed.peek(4)
        if start.startswith(_GZIP):
            return gzip.GzipFile(fileobj=packed, mode="rb")
        if start.startswith(_ZSTD) or start[1:4] == _ZSTD_SKIPPABLE:
            return io.BufferedReader(pa.CompressedInputStream(packed, "zstd"), _BLOCK)
        return packed


class _Reading(io.RawIOBase):
    """Reads a shared file at a position of its own."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        # `fileno` fails once the file is closed; a stored number could belong to another file by
        # then.
        count = os.preadv(self._file.fileno(), [buffer], self._position)
        self._position += count
        return count

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        starts = {
            io.SEEK_SET: 0,
            io.SEEK_CUR: self._position,
            io.SEEK_END: os.fstat(self._file.fileno()).st_size,
        }
        self._position = starts[whence] + offset
        return self._position


@contextmanager
def snapshot_list(location: str, stores: Stores | None) -> Iterator[ListSnapshot]:
    """Copy a list; the copy lives as long as the context.

    Args:
        location: Path or ``s3://bucket/key``.
        stores: Clients of the object stores; created if None.

    Raises:
        ListError: There is no such list, or there is no room for the copy.
        StorageError: S3 does not give it.
    """
    with tempfile.TemporaryFile() as file:
        try:
            if is_in_store(location):
                (stores or Stores(threads=1)).download(_parse(location), file)
            else:
                _copy_local(Path(location), file)
            file.flush()
        except OSError as error:
            raise ListError(
                f"the list {location} cannot be copied into {tempfile.gettempdir()}: "
                f"{error.strerror or error}; TMPDIR names another folder"
            ) from None
        yield ListSnapshot(location, _digest(file), file)


def _parse(location: str) -> ObjectLocation:
    try:
        return ObjectLocation.parse(location)
    except ValueError as error:
        raise ListError(str(error)) from None


def _copy_local(path: Path, copy: IO[bytes]) -> None:
    try:
        source = path.open("rb")
    except FileNotFoundError:
        raise ListError(f"there is no list of images at {path}") from None
    except OSError as error:
        raise ListError(f"the list of images {path} cannot be read: {error.strerror}") from None
    with source:
        while block := source.read(_BLOCK):
            copy.write(block)


def _digest(file: IO[bytes]) -> str:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
