"""The content of a file that may be compressed, read from front to back in constant memory.

The first bytes show whether a file is gzip, zstd or plain. A plain one is read at any position;
what is compressed can only be unpacked up to where the reader wants to be.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from jobs.storage.errors import ObjectUnavailable
from jobs.storage.pinned import PinnedFile

_BLOCK = 1024 * 1024
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
# pzstd begins with a skippable frame, whose first byte is from 0x50 to 0x5f.
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"
# Photos hardly shrink, and text to a tenth; what unpacks to more than this is made to do harm.
_MAX_RATIO, _RATIO_FROM = 200, 256 * 1024 * 1024


class Unpacked:
    """The unpacked content of a file; for one thread at a time.

    Args:
        file: File to read from its beginning.

    Attributes:
        location: Location of the file.
        position: Position in the content, in bytes.
        is_packed: Whether the file is compressed, so that `seek` only leads forwards.
    """

    def __init__(self, file: PinnedFile) -> None:
        self.location = file.location
        self.position = 0
        self._file = file
        file.seek(0)
        start = file.read(4) or b""
        file.seek(0)
        packed = io.BufferedReader(file)
        self._stream: Any = packed
        self.is_packed = True
        if start.startswith(_GZIP):
            self._stream = gzip.GzipFile(fileobj=packed, mode="rb")
        elif start.startswith(_ZSTD) or start[1:4] == _ZSTD_SKIPPABLE:
            self._stream = io.BufferedReader(pa.CompressedInputStream(packed, "zstd"), _BLOCK)
        else:
            self.is_packed = False

    def read(self, size: int) -> bytes:
        """The next ``size`` bytes; fewer only at the end.

        Raises:
            ObjectUnavailable: The file is damaged, expands beyond all measure, or cannot be read.
            StorageError: Nothing can be read.
        """
        data: bytes = self._guarded(lambda: self._stream.read(size))
        self.position += len(data)
        if self.is_packed and self.position > max(_RATIO_FROM, _MAX_RATIO * self._file.tell()):
            raise ObjectUnavailable(
                "unreadable",
                f"it expands to more than {_MAX_RATIO} times its size, as no pictures do",
            )
        return data

    def seek(self, position: int) -> None:
        """Go to a position, at most to the end; backwards only in a file that is not compressed.

        Raises:
            ObjectUnavailable: As for `read`.
            StorageError: Nothing can be read.
        """
        if not self.is_packed:
            self._guarded(lambda: self._stream.seek(position))
            self.position = position
            return
        assert position >= self.position
        while self.position < position:
            if not self.read(min(_BLOCK, position - self.position)):
                return

    def _guarded(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except (EOFError, OSError, zlib.error, pa.ArrowException) as error:
            line = " ".join(str(error).split())[:200]
            raise ObjectUnavailable("unreadable", f"it is damaged: {line}") from None
