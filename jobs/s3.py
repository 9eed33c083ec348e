"""S3: one client for each process, whole objects, every request retried as a whole.

Errors come out sorted (see `jobs.s3_errors`): `ObjectRefused` for what concerns one object,
`S3Error` for what would befall every further one too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import IO, Any, TypeVar
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from jobs import retry
from jobs.retry import RetryPolicy, StillFailing
from jobs.s3_errors import ObjectRefused, S3Error, code_of, one_line, sort_error

Result = TypeVar("Result")

_SCHEME = "s3://"
_BLOCK = 1024 * 1024


@dataclass(frozen=True)
class S3Location:
    """A bucket and a key, or a bucket and a prefix."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, text: str) -> S3Location:
        """Read ``s3://bucket/key``; '?' and '#' are parts of the key as any other letter.

        Raises:
            ValueError: the text does not start with ``s3://`` and a bucket.
        """
        bucket, _, key = text.removeprefix(_SCHEME).partition("/")
        if not is_s3(text) or not bucket:
            raise ValueError(f"'{text}' is not an S3 location: expected s3://bucket/key")
        return cls(bucket, key)

    def __str__(self) -> str:
        return f"{_SCHEME}{self.bucket}/{self.key}"


def is_s3(text: str) -> bool:
    """Whether ``text`` names something on S3."""
    return text.startswith(_SCHEME)


def make_client(*, connections: int) -> Any:
    """A boto3 client from the standard AWS settings (environment, profiles, instance roles).

    Args:
        connections: kept open; fewer than threads would make these wait for each other.

    Raises:
        S3Error: the settings name a profile that does not exist, or are unusable otherwise.
    """

    def client(addressing: str) -> Any:
        config = Config(
            max_pool_connections=connections,
            connect_timeout=10,
            read_timeout=60,
            retries={"total_max_attempts": 1, "mode": "standard"},
            s3={"addressing_style": addressing},
        )
        return boto3.session.Session().client("s3", config=config)

    try:
        made = client("auto")
        host = urlsplit(made.meta.endpoint_url).hostname or ""
        if host.endswith((".amazonaws.com", ".amazonaws.com.cn")):
            return made
        # An endpoint of the user's own: bucket names are seldom subdomains there.
        return client("path")
    except (BotoCoreError, ValueError) as error:
        raise S3Error(f"the AWS settings cannot be used: {one_line(str(error))}") from None


class S3:
    """Whole-object reads and writes with retries, safe to share between threads.

    The client is made at the first request, so that a job on local files needs no AWS settings.

    Args:
        threads: that will use it at the same time.
        policy: of retries.
    """

    def __init__(self, *, threads: int = 16, policy: RetryPolicy | None = None) -> None:
        self._connections = threads + 2
        self._policy = policy or RetryPolicy()
        self._client: Any = None
        self._lock = threading.Lock()
        self._closing = threading.Event()

    def close(self) -> None:
        """End waits between attempts, so that the threads of a stopped job end at once."""
        self._closing.set()

    def fetch(self, location: S3Location, *, max_bytes: int) -> bytes:
        """The content of an object.

        Raises:
            ObjectRefused: it is missing, forbidden, unreachable, or larger than ``max_bytes``
                (then nothing of it is downloaded).
            S3Error: wrong credentials or a missing bucket.
        """

        def attempt() -> bytes:
            answer = self._s3().get_object(Bucket=location.bucket, Key=location.key)
            body, size = answer["Body"], answer.get("ContentLength")
            try:
                # Without a length, one byte too many is enough to know.
                data: bytes = (
                    b""
                    if _exceeds(size, max_bytes)
                    else body.read(None if size is not None else max_bytes + 1)
                )
            finally:
                body.close()
            if _exceeds(size if size is not None else len(data), max_bytes):
                raise ObjectRefused(
                    "too-large",
                    f"the object has {size if size is not None else len(data)} bytes; "
                    f"at most {max_bytes} are accepted",
                )
            return data

        return self._run(attempt, location)

    def download(self, location: S3Location, file: IO[bytes]) -> None:
        """Copy an object of any size into ``file``, block by block.

        Raises:
            S3Error: it cannot be had.
        """

        def attempt() -> None:
            file.seek(0)
            file.truncate()
            body = self._s3().get_object(Bucket=location.bucket, Key=location.key)["Body"]
            try:
                for block in body.iter_chunks(_BLOCK):
                    file.write(block)
            finally:
                body.close()

        self._run_or_stop(attempt, location, "read")

    def put(self, location: S3Location, data: bytes) -> None:
        """Write an object whole: readers see all of it or nothing.

        Raises:
            S3Error: it cannot be written.
        """
        self._run_or_stop(
            lambda: self._s3().put_object(Bucket=location.bucket, Key=location.key, Body=data),
            location,
            "write",
        )

    def create(self, location: S3Location, data: bytes) -> bool:
        """Write an object unless it exists; of several writers exactly one wins.

        A repeated attempt may meet its own first one, so a caller that loses should look at what
        is there.

        Returns:
            Whether it was written.

        Raises:
            S3Error: it cannot be written.
        """

        def attempt() -> bool:
            try:
                self._s3().put_object(
                    Bucket=location.bucket, Key=location.key, Body=data, IfNoneMatch="*"
                )
            except ClientError as error:
                if code_of(error) == "PreconditionFailed":
                    return False
                raise
            return True

        return self._run_or_stop(attempt, location, "write")

    def list(self, folder: S3Location) -> dict[str, int]:
        """Names and sizes (bytes) of the objects right under a prefix that is empty or ends in '/'.

        Raises:
            S3Error: the bucket does not exist or may not be listed.
        """
        found: dict[str, int] = {}
        token: dict[str, str] = {}
        while True:
            answer = self._run_or_stop(partial(self._page, folder, token), folder, "list")
            for item in answer.get("Contents", ()):
                found[item["Key"].removeprefix(folder.key)] = item["Size"]
            if not answer.get("IsTruncated"):
                found.pop("", None)  # the marker that some programs make for a folder
                return found
            token = {"ContinuationToken": answer["NextContinuationToken"]}

    def _page(self, folder: S3Location, token: dict[str, str]) -> Any:
        return self._s3().list_objects_v2(
            Bucket=folder.bucket, Prefix=folder.key, Delimiter="/", **token
        )

    def _s3(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = make_client(connections=self._connections)
            return self._client

    def _run(self, attempt: Callable[[], Result], location: S3Location) -> Result:
        try:
            return retry.call(attempt, policy=self._policy, wait=self._closing.wait)
        except (StillFailing, ClientError, BotoCoreError) as error:
            raise sort_error(
                error,
                bucket=location.bucket,
                key=location.key,
                endpoint=self._client.meta.endpoint_url if self._client else "S3",
            ) from error

    def _run_or_stop(
        self, attempt: Callable[[], Result], location: S3Location, verb: str
    ) -> Result:
        try:
            return self._run(attempt, location)
        except ObjectRefused as refused:
            raise S3Error(f"cannot {verb} {location}: {refused.reason}") from refused


def _exceeds(size: int | None, most: int) -> bool:
    return size is not None and size > most
