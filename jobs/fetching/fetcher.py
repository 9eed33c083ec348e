"""The bytes of one image, from S3, from an HTTPS host that the user named, or from a local file.

Whatever is wrong with a single image is `ObjectUnavailable`. Only when image after image cannot be
reached, or none may be read from the start, does `Fetcher` stop the job: rows that blame the images
for it would be skipped as done when the job is started again.
"""

from __future__ import annotations

import errno
import stat
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from jobs.fetching.https import HttpsImages
from jobs.storage.errors import ObjectUnavailable, StorageError
from jobs.storage.s3 import S3
from jobs.values.locations import S3Location, is_s3, is_web

_IN_SUCCESSION = 20
# What the machine lacks, it lacks for every image.
_OF_THE_MACHINE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


@dataclass(frozen=True)
class Fetched:
    """An image as it came.

    Attributes:
        data: Encoded image.
        etag: Identifier that the server gives this version of the object, without quotes; None for
            local files.
    """

    data: bytes
    etag: str | None


class Objects(Protocol):
    """Gets objects of S3: `jobs.storage.s3.S3` does, and `jobs.fetching.obstore.ObstoreObjects`."""

    def fetch(self, location: S3Location, *, max_bytes: int) -> tuple[bytes, str | None]:
        """Content and ETag of an object; raises `ObjectUnavailable` or `StorageError`."""


class Streak:
    """Counts images in succession that end in one bad way; safe to share between threads.

    Args:
        kind: Kind of `ObjectUnavailable` that is counted.
        limit: Number of images in succession that is too many.
        passing_over: Kinds that are ignored: they count neither for nor against.
        from_the_start: Whether an image that ends otherwise also ends the counting for good.
    """

    def __init__(
        self, kind: str, limit: int, *, passing_over: Collection[str], from_the_start: bool = False
    ) -> None:
        self._kind = kind
        self._limit = limit
        self._passing_over = frozenset(passing_over)
        self._from_the_start = from_the_start
        self._over = False
        self._count = 0
        self._lock = threading.Lock()

    def is_too_long(self, kind: str | None) -> bool:
        """Count one more image.

        Args:
            kind: Kind of the image's refusal; None if it could be fetched.
        """
        with self._lock:
            if self._over or kind in self._passing_over:
                return False
            if kind == self._kind:
                self._count += 1
                return self._count >= self._limit
            self._count = 0
            self._over = self._from_the_start
            return False


class Fetcher:
    """Reads images; safe to share between threads.

    Args:
        s3: S3 client for images on S3; its retries and its limiter are those of all images.
        max_bytes: Size limit of an image, in bytes; larger images are refused without being read.
        hosts: Hosts that images may be fetched from over HTTPS, as
            `jobs.fetching.https.HttpsImages` takes them.
        client: Library that fetches objects from S3: ``boto3``, or ``obstore``, which needs a
            fraction of the processor time.
        in_succession: Number of unreachable images in succession, without one that could be fetched
            among them, that counts as an outage; as many forbidden images at the beginning count as
            missing rights.
        insecure_origins: Origins such as ``http://127.0.0.1:8080``, for servers of tests.

    Raises:
        VeaError: A host name is invalid, or obstore is not installed.
    """

    def __init__(
        self,
        s3: S3,
        *,
        max_bytes: int,
        hosts: Sequence[str] = (),
        client: str = "obstore",
        in_succession: int = _IN_SUCCESSION,
        insecure_origins: Collection[str] = (),
    ) -> None:
        self._objects = _objects(s3, client)
        self._web = HttpsImages(s3.retries, hosts, insecure_origins=insecure_origins)
        self._max_bytes = max_bytes
        self._outage = Streak("unreachable", in_succession, passing_over={"bad-location"})
        self._denial = Streak(
            "forbidden",
            in_succession,
            passing_over={"bad-location", "unreachable"},
            from_the_start=True,
        )

    def fetch(self, location: str) -> Fetched:
        """The encoded image at ``location``: a path, ``s3://bucket/key`` or ``https://...``.

        Raises:
            ObjectUnavailable: This image cannot be fetched.
            StorageError: No image can be fetched.
        """
        if not location:
            raise ObjectUnavailable("bad-location", "this row of the list names no image")
        if not is_s3(location) and not is_web(location):
            return Fetched(_read(location, self._max_bytes), None)
        if not _is_text(location):
            raise ObjectUnavailable("bad-location", "the location is not valid Unicode text")
        try:
            data, etag = self._get(location)
        except ObjectUnavailable as refused:
            self._watch(location, refused)
            raise
        self._outage.is_too_long(None)
        self._denial.is_too_long(None)
        return Fetched(data, etag)

    def _get(self, location: str) -> tuple[bytes, str | None]:
        if is_web(location):
            return self._web.fetch(location, max_bytes=self._max_bytes)
        return self._objects.fetch(_parse(location), max_bytes=self._max_bytes)

    def _watch(self, location: str, refused: ObjectUnavailable) -> None:
        server = "S3" if is_s3(location) else "/".join(location.split("/", 3)[:3])
        # An answer about an image, be it "missing", shows that the server is there.
        if self._outage.is_too_long(refused.kind):
            raise StorageError(
                f"{server} is out of reach: image after image could not be fetched "
                f"({refused.reason}); finished parts are kept, start again later"
            ) from refused
        if self._denial.is_too_long(refused.kind):
            raise StorageError(
                f"{server} denies access to every image, the last of them {location} "
                f"({refused.reason}): check which account the credentials belong to, and that it "
                "may read these images"
            ) from refused


def _is_text(location: str) -> bool:
    try:
        location.encode()
    except UnicodeEncodeError:  # half a surrogate pair, as JSON can spell it
        return False
    return True


def _objects(s3: S3, client: str) -> Objects:
    if client == "boto3":
        return s3
    if client == "obstore":
        try:
            from jobs.fetching.obstore import ObstoreObjects  # noqa: PLC0415 - it is optional
        except ModuleNotFoundError:
            raise StorageError(
                "obstore is not installed: pip install 'vea[jobs]', or fetch with boto3"
            ) from None
        return ObstoreObjects(s3)
    raise StorageError(f"'{client}' is no client of S3: expected boto3 or obstore")


def _read(location: str, max_bytes: int) -> bytes:
    if "://" in location:
        scheme = location.partition("://")[0]
        raise ObjectUnavailable(
            "bad-location",
            f"'{scheme}://' is not supported: expected s3://bucket/key, https:// or a path",
        )
    path = Path(location)
    try:
        found = path.stat()
        # A pipe or a device could keep a reader waiting for ever.
        if not stat.S_ISREG(found.st_mode):
            raise ObjectUnavailable("bad-location", "this is not a regular file")
        if found.st_size > max_bytes:
            raise ObjectUnavailable(
                "too-large",
                f"the file has {found.st_size} bytes; at most {max_bytes} are accepted",
            )
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise ObjectUnavailable("missing", "there is no such file") from None
    except PermissionError:
        raise ObjectUnavailable("forbidden", "the file may not be read") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
            raise
        raise ObjectUnavailable("unreadable", f"the file cannot be read: {error}") from None


def _parse(location: str) -> S3Location:
    try:
        return S3Location.parse(location)
    except ValueError as error:
        raise ObjectUnavailable("bad-location", str(error)) from None
