"""One version of a file, local or in an object store, read at any position.

Files that hold pictures are too large to be copied, and are opened again and again: by the list,
by every worker, by every attempt. An object is pinned by its ETag, which every request names; a
local one by its size and the time of its last change. Each request is retried as a whole.
"""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from jobs.storage.errors import ObjectUnavailable, StorageError, code_of
from jobs.storage.opened import ObjectChanged
from jobs.storage.retry import TransientError
from jobs.storage.s3 import S3, bare_etag
from jobs.storage.stores import Stores
from jobs.values.locations import ObjectLocation, is_in_store

_HEAD = 64 * 1024  # bytes of the first request
_TOTAL = re.compile(r"bytes \d+-\d+/(\d+)")

ReadAt = Callable[[int, int], bytes]
"""Function that gives up to a number of bytes from a position: ``(position, size)``."""

GetPart = Callable[[int, int, str | None], tuple[bytes, int, str]]
"""Function from a position, a number of bytes and the ETag that the object must have to bytes, the
size of the whole object, and its ETag."""


class PinnedFile(io.RawIOBase):
    """A file whose content cannot change unnoticed; for one thread at a time.

    Args:
        location: Location of the file.
        version: Version of the content: of the same version, the same bytes.
        size: Size in bytes.
        read_at: Function that reads it.
        block: Minimum number of bytes that are requested at a time, as far as there are so many.
        first: First bytes of the file, if these are known already.
        on_close: Function that releases what the reading needs.
    """

    def __init__(
        self,
        location: str,
        version: str,
        size: int,
        read_at: ReadAt,
        *,
        block: int,
        first: bytes = b"",
        on_close: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        self._on_close = on_close
        self.location = location
        self.version = version
        self.size = size
        self._read_at = read_at
        self._block = block
        self._held, self._held_from = first, 0
        self._position = 0

    def close(self) -> None:
        """As `io.IOBase.close`; a file that nobody holds any more is closed, too."""
        if not self.closed and self._on_close:
            self._on_close()
        super().close()

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """As `io.RawIOBase.readinto`.

        Raises:
            ObjectUnavailable: The file is missing, forbidden or unreachable.
            StorageError: The file has changed, or nothing can be read from S3.
        """
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), self.size - self._position)
        if wanted <= 0:
            return 0
        start = self._position - self._held_from
        if not 0 <= start < len(self._held):
            if wanted >= self._block:
                data = self._exactly(self._position, wanted)
                view[:wanted] = data
                self._position += wanted
                return wanted
            ahead = min(self._block, self.size - self._position)
            self._held, self._held_from = self._exactly(self._position, ahead), self._position
            start = 0
        part = memoryview(self._held)[start : start + wanted]
        view[: len(part)] = part
        self._position += len(part)
        return len(part)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """As `io.RawIOBase.seek`."""
        starts = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}
        self._position = starts[whence] + offset
        return self._position

    def tell(self) -> int:
        """As `io.RawIOBase.tell`."""
        return self._position

    def _exactly(self, position: int, size: int) -> bytes:
        data = self._read_at(position, size)
        if len(data) != size:
            raise _changed(self.location)
        return data


def open_pinned(
    location: str, stores: Stores, *, version: str | None = None, block: int = 64 * 1024
) -> PinnedFile:
    """Open a file, or the version of it that an earlier caller has seen.

    Args:
        location: Path, or ``s3://bucket/key``.
        stores: Clients of the object stores.
        version: Version that it must have; None for the present one.
        block: Minimum number of bytes of a request to S3.

    Raises:
        ObjectUnavailable: The file is missing, forbidden or unreachable, or is no regular file.
        StorageError: The file has changed, or nothing can be read from S3.
    """
    if is_in_store(location):
        return _in_store(ObjectLocation.parse(location), stores, version, block)
    return _local(location, version)


def _local(location: str, version: str | None) -> PinnedFile:
    path = Path(location)
    try:
        # A pipe could keep a reader waiting for ever.
        if not stat.S_ISREG(path.stat().st_mode):
            raise ObjectUnavailable("bad-location", "this is not a regular file")
        file = path.open("rb", buffering=0)
    except (FileNotFoundError, NotADirectoryError):
        raise ObjectUnavailable("missing", "there is no such file") from None
    except PermissionError:
        raise ObjectUnavailable("forbidden", "the file may not be read") from None
    except (OSError, ValueError) as error:
        raise ObjectUnavailable("unreadable", f"the file cannot be read: {error}") from None

    def present() -> str:
        found = os.fstat(file.fileno())
        return f"{found.st_size}-{found.st_mtime_ns}"

    pinned = present()
    if version not in (None, pinned):
        raise _changed(location)

    def read_at(position: int, size: int) -> bytes:
        if present() != pinned:
            raise _changed(location)
        try:
            return os.pread(file.fileno(), size, position)
        except OSError as error:
            raise ObjectUnavailable("unreadable", f"the file cannot be read: {error}") from None

    size = os.fstat(file.fileno()).st_size
    # The system reads ahead, so that larger requests would save nothing.
    return PinnedFile(location, pinned, size, read_at, block=1, on_close=file.close)


def _in_store(place: ObjectLocation, stores: Stores, version: str | None, block: int) -> PinnedFile:
    get = _get_on_s3(place, stores.s3) if place.scheme == "s3" else _get_elsewhere(place, stores)
    first, size, etag = get(0, min(block, _HEAD), version)
    return PinnedFile(
        str(place),
        etag,
        size,
        lambda position, count: get(position, count, etag)[0],
        block=block,
        first=first,
    )


def _get_elsewhere(place: ObjectLocation, stores: Stores) -> GetPart:
    client = stores.through_obstore(place.scheme)

    def get(position: int, size: int, pinned: str | None) -> tuple[bytes, int, str]:
        try:
            return client.read_part(place, position, size, etag=pinned)
        except ObjectChanged:
            raise _changed(str(place)) from None

    return get


def _get_on_s3(place: ObjectLocation, s3: S3) -> GetPart:
    def get(position: int, size: int, pinned: str | None) -> tuple[bytes, int, str]:
        def attempt() -> tuple[bytes, int, str]:
            options = {"IfMatch": f'"{pinned}"'} if pinned else {}
            wanted = f"bytes={position}-{position + size - 1}"
            try:
                answer = s3.connection().client.get_object(
                    Bucket=place.bucket, Key=place.key, Range=wanted, **options
                )
            except ClientError as error:
                if code_of(error) == "InvalidRange" and position == 0:
                    return b"", 0, ""  # an empty object
                if code_of(error) in ("PreconditionFailed", "412"):
                    raise _changed(str(place)) from None
                raise
            body = answer["Body"]
            try:
                etag, total = (
                    bare_etag(answer.get("ETag")),
                    _TOTAL.match(answer.get("ContentRange") or ""),
                )
                if total is None and answer.get("ContentLength") != 0:
                    raise StorageError(
                        f"{place} cannot be read in parts: the server does not answer requests "
                        "for a range of bytes"
                    )
                if etag is None:
                    raise StorageError(f"{place} has no ETag, which tells its versions apart")
                if pinned not in (None, etag):  # by a server that passes over the condition
                    raise _changed(str(place))
                data: bytes = body.read()
            finally:
                body.close()
            whole = int(total[1]) if total else 0
            if len(data) != min(size, whole - position):
                raise TransientError(f"{len(data)} bytes came where {size} were requested")
            return data, whole, etag

        return s3.run(attempt, place, paced=True)

    return get


def _changed(location: str) -> StorageError:
    return StorageError(
        f"{location} has changed since the list was read: put the file back that was listed, or "
        "score the new one into another --out"
    )
