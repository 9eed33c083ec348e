"""S3: one client for each process, whole objects, every request retried as a whole.

Errors are classified (see `jobs.storage.errors`): `ObjectUnavailable` concerns one object,
`StorageError` would concern every further object too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import IO, Any

from botocore.exceptions import BotoCoreError, ClientError

from jobs.storage.errors import NotModified, ObjectUnavailable, classify_error, code_of
from jobs.storage.rate_limit import Closed
from jobs.storage.retry import Retries, RetriesExhausted, TransientError
from jobs.storage.s3_client import Connection, connect
from jobs.storage.store_client import Result, StoreClient
from jobs.values.job import RetrySettings
from jobs.values.locations import ObjectLocation

_BLOCK = 1024 * 1024


class S3(StoreClient):
    """Whole-object reads and writes with retries, safe to share between threads.

    The client is made at the first request, so that a job on local files needs no AWS settings.

    Args:
        threads: Number of threads that will use it at the same time.
        retry: Attempts and waits of requests.

    Attributes:
        retries: Retries of every request of this client; code that fetches images in other ways
            uses them too.
    """

    deleted_at_once = 1_000  # more are refused
    # Servers without this request, or that require a Content-MD5 with it.
    one_by_one = frozenset({"refused"})

    def __init__(self, *, threads: int = 16, retry: RetrySettings | None = None) -> None:
        self.retries = Retries(retry or RetrySettings(), threads=threads)
        self._connections = threads + 2
        self._connection: Connection | None = None
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
        return self.run(
            lambda: self.get_once(location, max_bytes=max_bytes, unless=unless),
            location,
            paced=True,
        )

    def get_once(
        self, location: ObjectLocation, *, max_bytes: int, unless: str | None = None
    ) -> tuple[bytes, str | None]:
        """One attempt at `fetch`, whose errors are botocore's; for `run`."""
        client = self._client()
        condition = {} if unless is None else {"IfNoneMatch": f'"{unless}"'}
        try:
            answer = client.get_object(Bucket=location.bucket, Key=location.key, **condition)
        except ClientError as error:
            if condition and code_of(error) == "304":  # without a body, the status is the code
                raise NotModified from error
            raise
        except ValueError as error:  # a malformed header
            raise TransientError(f"the answer cannot be read: {error}") from error
        body, size = answer["Body"], answer.get("ContentLength")
        try:
            if size is not None:
                refuse_large(size, max_bytes)
            # Without a length, one byte too many is enough to know.
            data: bytes = body.read(None if size is not None else max_bytes + 1)
            refuse_large(len(data), max_bytes)
        finally:
            body.close()
        return data, bare_etag(answer.get("ETag"))

    def download(self, location: ObjectLocation, file: IO[bytes]) -> None:
        """Copy an object of any size into ``file``, block by block.

        Raises:
            StorageError: The object cannot be fetched.
        """

        def attempt() -> None:
            file.seek(0)
            file.truncate()
            body = self._client().get_object(Bucket=location.bucket, Key=location.key)["Body"]
            try:
                for block in body.iter_chunks(_BLOCK):
                    file.write(block)
            finally:
                body.close()

        self._run_or_stop(attempt, location, "read")

    def put(self, location: ObjectLocation, data: bytes) -> None:
        """Write an object whole: readers see all of it or nothing.

        Raises:
            StorageError: The object cannot be written.
        """
        self._run_or_stop(
            lambda: self._client().put_object(Bucket=location.bucket, Key=location.key, Body=data),
            location,
            "write",
        )

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
                self._client().put_object(
                    Bucket=location.bucket, Key=location.key, Body=data, IfNoneMatch="*"
                )
            except ClientError as error:
                if code_of(error) == "PreconditionFailed":
                    return False
                raise
            return True

        return self._run_or_stop(attempt, location, "write")

    def list(self, folder: ObjectLocation) -> dict[str, int]:
        """Names and sizes (bytes) of the objects right under a prefix that is empty or ends in '/'.

        Raises:
            StorageError: The bucket does not exist or may not be listed.
        """
        found = {
            item["Key"].removeprefix(folder.key): item["Size"]
            for item in self._items(folder, Delimiter="/")
        }
        found.pop("", None)  # the marker that some programs make for a folder
        return found

    def walk(self, location: ObjectLocation) -> Iterator[str]:
        """All keys that begin with ``location.key``, however deep, in the server's order.

        On AWS this is the order of the keys' UTF-8 bytes. One page is held at a time.

        Raises:
            StorageError: The bucket does not exist or may not be listed.
        """
        for item in self._items(location):
            yield item["Key"]

    def _delete_batch(self, locations: Sequence[ObjectLocation]) -> None:
        wanted = {"Objects": [{"Key": one.key} for one in locations], "Quiet": True}
        answer = self._client().delete_objects(Bucket=locations[0].bucket, Delete=wanted)
        for error in answer.get("Errors", ()):
            # The answer as a whole is 200; an error in it is one of an ordinary answer's.
            if error.get("Code") not in ("NoSuchKey", "NoSuchVersion"):
                raise ClientError({"Error": error}, "DeleteObjects")

    def _delete_one(self, location: ObjectLocation) -> None:
        self._run_or_stop(
            lambda: self._client().delete_object(Bucket=location.bucket, Key=location.key),
            location,
            "delete",
        )

    def _items(self, place: ObjectLocation, **options: str) -> Iterator[dict[str, Any]]:
        token: dict[str, str] = {}
        while True:
            answer = self._run_or_stop(partial(self._page, place, options | token), place, "list")
            yield from answer.get("Contents", ())
            if not answer.get("IsTruncated"):
                return
            token = {"ContinuationToken": answer["NextContinuationToken"]}

    def _page(self, place: ObjectLocation, options: dict[str, str]) -> Any:
        return self._client().list_objects_v2(Bucket=place.bucket, Prefix=place.key, **options)

    def connection(self) -> Connection:
        """The connection that all requests use.

        Raises:
            StorageError: The AWS settings are unusable.
        """
        with self._lock:
            if self._connection is None:
                self._connection = connect(connections=self._connections)
            return self._connection

    def run(
        self, attempt: Callable[[], Result], location: ObjectLocation, *, paced: bool = False
    ) -> Result:
        """Send a request, with retries, and classify its errors.

        Args:
            attempt: Function that makes one whole request; its failures are botocore's,
                `TransientError`, or already classified.
            location: Location that the request is about.
            paced: Whether the request is paced, as in `Retries.run`.

        Raises:
            ObjectUnavailable: This object cannot be fetched.
            StorageError: No object can be fetched.
        """
        try:
            return self.retries.run(attempt, paced=paced)
        except (RetriesExhausted, Closed, ClientError, BotoCoreError) as error:
            raise classify_error(
                error,
                bucket=location.bucket,
                key=location.key,
                endpoint=self._connection.endpoint if self._connection else "S3",
            ) from error

    def _client(self) -> Any:
        return self.connection().client


def bare_etag(header: str | None) -> str | None:
    """An ETag without its quotes and without the mark of a weak one."""
    return header.removeprefix("W/").strip('"') if header else None


def refuse_large(size: int, max_bytes: int) -> None:
    """Raise `ObjectUnavailable` if an object of ``size`` bytes is larger than ``max_bytes``."""
    if size > max_bytes:
        raise ObjectUnavailable(
            "too-large", f"the object has {size} bytes; at most {max_bytes} are accepted"
        )
