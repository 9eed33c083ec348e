"""The clients of all object stores; the scheme of a location says which one is asked."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, Protocol

from jobs.storage.errors import StorageError
from jobs.storage.retry import Retries
from jobs.storage.s3 import S3
from jobs.values.job import RetrySettings
from jobs.values.locations import STORES, ObjectLocation

if TYPE_CHECKING:
    from jobs.storage.obstore_client import ObstoreClient


class ObjectStore(Protocol):
    """Whole objects of one kind of store; `jobs.storage.s3.S3` says what each method promises."""

    def fetch(
        self, location: ObjectLocation, *, max_bytes: int, unless: str | None = None
    ) -> tuple[bytes, str | None]:
        """The content of an object and its ETag, without quotes."""

    def download(self, location: ObjectLocation, file: IO[bytes]) -> None:
        """Copy an object of any size into ``file``, block by block."""

    def put(self, location: ObjectLocation, data: bytes) -> None:
        """Write an object whole."""

    def create(self, location: ObjectLocation, data: bytes) -> bool:
        """Write an object unless it exists; returns whether it was written."""

    def list(self, folder: ObjectLocation) -> dict[str, int]:
        """Names and sizes (bytes) of the objects right under a prefix."""

    def walk(self, location: ObjectLocation) -> Iterator[str]:
        """All keys that begin with ``location.key``, however deep."""

    def delete(self, locations: Iterable[ObjectLocation]) -> None:
        """Remove objects; those that do not exist are ignored."""


class Stores:
    """Objects of all stores, with the methods of `ObjectStore`; safe to share between threads.

    A client is made at the first request to its store, so that a job on local files needs no
    settings of any store.

    Args:
        threads: Number of threads that will use it at the same time.
        retry: Attempts and waits of requests.

    Attributes:
        s3: Client of S3.
        retries: Retries of every request; code that fetches images in other ways uses them too.
    """

    def __init__(self, *, threads: int = 16, retry: RetrySettings | None = None) -> None:
        self.s3 = S3(threads=threads, retry=retry)
        self.retries: Retries = self.s3.retries
        self._threads = threads
        self._retry = retry or RetrySettings()
        self._others: dict[str, ObstoreClient] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """End waits between attempts, so that the threads of a stopped job end at once."""
        self.retries.close()

    def fetch(
        self, location: ObjectLocation, *, max_bytes: int, unless: str | None = None
    ) -> tuple[bytes, str | None]:
        """The content of an object and its ETag, without quotes.

        Args:
            location: Location of the object.
            max_bytes: Size limit in bytes.
            unless: ETag of the content that the caller needs no more, without quotes.

        Raises:
            NotModified: The object has the ETag ``unless``.
            ObjectUnavailable: The object is missing, forbidden, unreachable, or larger than
                ``max_bytes`` (then nothing of it is downloaded).
            StorageError: The credentials are wrong.
        """
        return self._of(location).fetch(location, max_bytes=max_bytes, unless=unless)

    def download(self, location: ObjectLocation, file: IO[bytes]) -> None:
        """Copy an object of any size into ``file``, block by block.

        Raises:
            StorageError: The object cannot be fetched.
        """
        self._of(location).download(location, file)

    def put(self, location: ObjectLocation, data: bytes) -> None:
        """Write an object whole: readers see all of it or nothing.

        Raises:
            StorageError: The object cannot be written.
        """
        self._of(location).put(location, data)

    def create(self, location: ObjectLocation, data: bytes) -> bool:
        """Write an object unless it exists; of several writers exactly one wins.

        A repeated attempt may find the object of its own first attempt, so a caller that loses
        should read what is there.

        Returns:
            Whether it was written.

        Raises:
            StorageError: The object cannot be written.
        """
        return self._of(location).create(location, data)

    def list(self, folder: ObjectLocation) -> dict[str, int]:
        """Names and sizes (bytes) of the objects right under a prefix.

        Raises:
            StorageError: The bucket does not exist or may not be listed.
        """
        return self._of(folder).list(folder)

    def walk(self, location: ObjectLocation) -> Iterator[str]:
        """All keys that begin with ``location.key``, however deep, in the server's order.

        Raises:
            StorageError: The bucket does not exist or may not be listed.
        """
        return self._of(location).walk(location)

    def delete(self, locations: Iterable[ObjectLocation]) -> None:
        """Remove objects; those that do not exist are ignored.

        Raises:
            StorageError: An object cannot be removed.
        """
        by_scheme = defaultdict[str, list[ObjectLocation]](list)
        for location in locations:
            by_scheme[location.scheme].append(location)
        for some in by_scheme.values():
            self._of(some[0]).delete(some)

    def through_obstore(self, scheme: str) -> ObstoreClient:
        """The client of Google Cloud Storage (``gs``) or Azure (``az``).

        Raises:
            StorageError: The package obstore is not installed.
        """
        with self._lock:
            if scheme not in self._others:
                try:
                    from jobs.storage.obstore_client import (  # noqa: PLC0415 - obstore is optional
                        ObstoreClient,
                    )
                except ModuleNotFoundError as error:
                    if error.name != "obstore":
                        raise
                    raise StorageError(
                        f"obstore, which {STORES[scheme]} needs, is not installed: pip install "
                        "'vea[jobs]'"
                    ) from None
                self._others[scheme] = ObstoreClient(
                    scheme, self.retries, threads=self._threads, retry=self._retry
                )
            return self._others[scheme]

    def _of(self, location: ObjectLocation) -> ObjectStore:
        return self.s3 if location.scheme == "s3" else self.through_obstore(location.scheme)
