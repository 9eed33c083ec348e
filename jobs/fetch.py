"""The bytes of one image, from S3 or from a local file.

Whatever is wrong with a single image is `ObjectRefused`. Only when image after image cannot be
reached does `Fetcher` stop the job: that is an outage, and rows that blame the images for it would
be skipped as done when the job is started again.
"""

from __future__ import annotations

import stat
import threading
from pathlib import Path

from jobs.s3 import S3, S3Location, is_s3
from jobs.s3_errors import ObjectRefused, S3Error

_OUTAGE = 20


class Fetcher:
    """Reads images; safe to share between threads.

    Args:
        s3: for the images that lie there.
        max_bytes: larger images are refused without being read.
        outage: so many unreachable images in succession, with not one that could be had among
            them, are taken for an outage.
    """

    def __init__(self, s3: S3, *, max_bytes: int, outage: int = _OUTAGE) -> None:
        self._s3 = s3
        self._max_bytes = max_bytes
        self._outage = outage
        self._unreachable = 0
        self._lock = threading.Lock()

    def fetch(self, location: str) -> bytes:
        """The encoded image at ``location``, a path or ``s3://bucket/key``.

        Raises:
            ObjectRefused: this image cannot be had.
            S3Error: no image can be had.
        """
        if not location:
            raise ObjectRefused("bad-location", "this row of the list names no image")
        if not is_s3(location):
            return self._read(location)
        try:
            data = self._s3.fetch(_parse(location), max_bytes=self._max_bytes)
        except ObjectRefused as refused:
            self._watch(refused)
            raise
        with self._lock:
            self._unreachable = 0
        return data

    def _watch(self, refused: ObjectRefused) -> None:
        with self._lock:
            # An answer about an image, be it "missing", shows that the server is there.
            self._unreachable = self._unreachable + 1 if refused.kind == "unreachable" else 0
            if self._unreachable >= self._outage:
                raise S3Error(
                    f"S3 is out of reach: {self._unreachable} images in succession could not be "
                    f"fetched ({refused.reason}); finished parts are kept, start again later"
                )

    def _read(self, location: str) -> bytes:
        if "://" in location:
            scheme = location.partition("://")[0]
            raise ObjectRefused(
                "bad-location",
                f"'{scheme}://' is not supported: expected s3://bucket/key or a path",
            )
        path = Path(location)
        try:
            found = path.stat()
            # A pipe or a device could keep a reader waiting for ever.
            if not stat.S_ISREG(found.st_mode):
                raise ObjectRefused("bad-location", "this is not a regular file")
            if found.st_size > self._max_bytes:
                raise ObjectRefused(
                    "too-large",
                    f"the file has {found.st_size} bytes; at most {self._max_bytes} are accepted",
                )
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise ObjectRefused("missing", "there is no such file") from None
        except PermissionError:
            raise ObjectRefused("forbidden", "the file may not be read") from None
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            raise ObjectRefused("unreadable", f"the file cannot be read: {error}") from None


def _parse(location: str) -> S3Location:
    try:
        return S3Location.parse(location)
    except ValueError as error:
        raise ObjectRefused("bad-location", str(error)) from None
