"""Objects of Google Cloud Storage and of Azure Blob Storage, through obstore.

The promises are those of `jobs.storage.s3.S3`: whole objects, creation only if absent, every
request retried as a whole by the one retry layer, and errors that are classified. The MD5 of an
object is verified where the store gives one: Google Cloud Storage as the ETag of objects that were
written in one piece, Azure as Content-MD5.

obstore treats keys as paths. A key that is not a tidy path, such as ``a//b``, is refused: obstore
would ask for another one.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import IO, Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotModifiedError

from jobs.storage.azure_reads import AzureReads
from jobs.storage.errors import NotModified, ObjectUnavailable, stopped
from jobs.storage.obstore_connection import ObstoreConnection, connect
from jobs.storage.obstore_errors import NoToken, StoreAnswer, classify_answer, translate
from jobs.storage.obstore_listing import Listing
from jobs.storage.obstore_parts import read_part
from jobs.storage.opened import Opened
from jobs.storage.rate_limit import Closed
from jobs.storage.retry import Retries, RetriesExhausted, TransientError
from jobs.storage.s3 import bare_etag, refuse_large
from jobs.storage.store_client import Result, StoreClient
from jobs.values.job import RetrySettings
from jobs.values.locations import ObjectLocation, is_tidy

_BLOCK = 1024 * 1024
_MD5 = re.compile("[0-9a-f]{32}")


class ObstoreClient(StoreClient):
    """Whole-object reads and writes with retries, safe to share between threads.

    Args:
        scheme: ``gs`` or ``az``.
        retries: Retries of every request.
        threads: Number of threads that will use it at the same time.
        retry: Attempts and waits of requests for the pages of a listing, which obstore repeats.
    """

    deleted_at_once = 256  # Azure refuses more
    # One of them was not there, or the server knows no such request.
    one_by_one = frozenset({"missing", "refused"})

    def __init__(
        self, scheme: str, retries: Retries, *, threads: int, retry: RetrySettings
    ) -> None:
        self._scheme = scheme
        self._retries = retries
        self._threads = threads
        self._retry = retry
        self._connections: dict[str, ObstoreConnection] = {}
        self._reads: dict[str, AzureReads] = {}
        self._lock = threading.Lock()

    def fetch(
        self, location: ObjectLocation, *, max_bytes: int, unless: str | None = None
    ) -> tuple[bytes, str | None]:
        """As `jobs.storage.stores.Stores.fetch`."""

        def attempt() -> tuple[bytes, str | None]:
            found = self._open(location, unless)
            if found.size is not None:
                refuse_large(found.size, max_bytes)
            data = bytearray()
            for block in found.verified():
                data += block
                refuse_large(len(data), max_bytes)
            return bytes(data), found.etag

        return self.run(attempt, location, paced=True)

    def download(self, location: ObjectLocation, file: IO[bytes]) -> None:
        """Copy an object of any size into ``file``, block by block.

        Raises:
            StorageError: The object cannot be fetched.
        """

        def attempt() -> None:
            file.seek(0)
            file.truncate()
            for block in self._open(location).verified():
                file.write(block)

        self._run_or_stop(attempt, location, "read")

    def read_part(
        self, location: ObjectLocation, position: int, size: int, *, etag: str | None
    ) -> tuple[bytes, int, str]:
        """As `jobs.storage.obstore_parts.read_part`, with retries and classified errors."""
        store = self.connection(location.bucket).store
        key = _plain(location)
        return self.run(lambda: read_part(store, key, position, size, etag), location, paced=True)

    def put(self, location: ObjectLocation, data: bytes) -> None:
        """Write an object whole: readers see all of it or nothing.

        Raises:
            StorageError: The object cannot be written.
        """
        self._run_or_stop(partial(self._put, location, data, "overwrite"), location, "write")

    def create(self, location: ObjectLocation, data: bytes) -> bool:
        """Write an object unless it exists; of several writers exactly one wins.

        A repeated attempt may find the object of its own first attempt, so a caller that loses
        should read what is there.

        Returns:
            Whether it was written.

        Raises:
            StorageError: The object cannot be written.
        """

        def attempt() -> bool:
            try:
                self._put(location, data, "create")
            except AlreadyExistsError:
                return False
            return True

        return self._run_or_stop(attempt, location, "write")

    def list(self, folder: ObjectLocation) -> dict[str, int]:
        """Names and sizes (bytes) of the objects right under a prefix.

        Raises:
            StorageError: The bucket does not exist or may not be listed.
        """
        parent = folder.key.rpartition("/")[0]
        answer = self._run_or_stop(
            lambda: obstore.list_with_delimiter(self._store(folder), parent or None),
            folder,
            "list",
        )
        found = {
            item["path"].removeprefix(folder.key): item["size"]
            for item in answer["objects"]
            if item["path"].startswith(folder.key)
        }
        found.pop("", None)  # the marker that some programs make for a folder
        return found

    def walk(self, location: ObjectLocation) -> Iterator[str]:
        """All keys that begin with ``location.key``, however deep, in the server's order.

        Raises:
            StorageError: The bucket does not exist or may not be listed.
        """
        listing = Listing(self.connection(location.bucket).lister, location.key)
        while (keys := self._run_or_stop(listing.page, location, "list")) is not None:
            yield from keys

    def _delete_batch(self, locations: Sequence[ObjectLocation]) -> None:
        obstore.delete(self._store(locations[0]), [_plain(one) for one in locations])

    def _delete_one(self, location: ObjectLocation) -> None:
        try:
            self.run(partial(self._delete_batch, [location]), location)
        except ObjectUnavailable as refused:
            if refused.kind != "missing":
                raise stopped(refused, location, "delete") from refused

    def _put(self, location: ObjectLocation, data: bytes, mode: Any) -> None:
        # Several requests would not be one condition, and would leave pieces behind.
        answer = obstore.put(
            self._store(location), _plain(location), data, mode=mode, use_multipart=False
        )
        stored = self._md5_in(bare_etag(answer["e_tag"]))
        if stored and stored != hashlib.md5(data, usedforsecurity=False).hexdigest():
            raise TransientError("what was stored does not match the MD5 of what was sent")

    def _open(self, location: ObjectLocation, unless: str | None = None) -> Opened:
        key = _plain(location)
        connection = self.connection(location.bucket)
        if reads := self._reads.get(location.bucket):
            return reads.open(key, unless)
        options: Any = {} if unless is None else {"if_none_match": f'"{unless}"'}
        try:
            answer = obstore.get(connection.store, key, options=options)
        except NotModifiedError:
            raise NotModified from None
        etag = bare_etag(answer.meta["e_tag"])
        return Opened(
            size=answer.meta["size"],
            etag=etag,
            md5=self._md5_in(etag),
            blocks=map(bytes, answer.stream(min_chunk_size=_BLOCK)),
        )

    def _md5_in(self, etag: str | None) -> str | None:
        """The MD5 that an ETag is, if it is one."""
        return etag if self._scheme == "gs" and etag and _MD5.fullmatch(etag) else None

    def _store(self, location: ObjectLocation) -> Any:
        return self.connection(location.bucket).store

    def connection(self, bucket: str) -> ObstoreConnection:
        """The connection that all requests for a bucket use.

        Raises:
            StorageError: The settings are unusable.
        """
        with self._lock:
            if bucket not in self._connections:
                found = connect(self._scheme, bucket, self._retry)
                if self._scheme == "az" and AzureReads.are_possible(found):
                    self._reads[bucket] = AzureReads(found, connections=self._threads)
                self._connections[bucket] = found
            return self._connections[bucket]

    def run(
        self, attempt: Callable[[], Result], location: ObjectLocation, *, paced: bool = False
    ) -> Result:
        """As `jobs.storage.store_client.StoreClient.run`."""

        def translated() -> Result:
            with _translating():
                return attempt()

        try:
            return self._retries.run(translated, paced=paced)
        except (RetriesExhausted, Closed, StoreAnswer, NoToken) as error:
            endpoint = self.connection(location.bucket).endpoint
            raise classify_answer(error, location, endpoint) from error


def _plain(location: ObjectLocation) -> str:
    if not is_tidy(location.key):
        raise ObjectUnavailable(
            "bad-location",
            "its key is not a tidy path: expected names with one '/' between them, and neither "
            "'.' nor '..' nor control characters",
        )
    return location.key


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except (BaseError, FileNotFoundError, ValueError) as error:
        raise translate(error) from error
