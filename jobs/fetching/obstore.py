"""Objects of S3 through obstore, which spends a fraction of the processor time of boto3.

Endpoint, region and credentials come from the same AWS settings, retries are our own, and error
answers are read by botocore's parser, so that they mean the same and read the same. What obstore
cannot do, boto3 does: keys that obstore would spell otherwise, buckets of another region, and
answers that obstore cannot read, such as those without a Content-Length.

Two differences remain, because obstore offers no way around them: it does not compare objects with
the checksums that S3 sends along, and it follows redirects to other addresses.
"""

from __future__ import annotations

import os
import re
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import obstore
from botocore.exceptions import ClientError
from botocore.parsers import create_parser
from obstore.exceptions import BaseError, UnauthenticatedError
from obstore.store import S3Store

from jobs.storage.retry import TransientError
from jobs.storage.s3 import S3, bare_etag, refuse_large
from jobs.values.locations import S3Location

_CONNECT, _READ, _WHOLE = timedelta(seconds=10), timedelta(seconds=60), timedelta(minutes=5)
# botocore renews credentials that have less than ten minutes left.
_CREDENTIALS = timedelta(minutes=10)
_ANSWER = re.compile(r" - Server returned non-2xx status code: (\d{3})[^:]*: (.*)", re.DOTALL)
_DEBUG = "\n\nDebug source"
_MOVED = frozenset({301, 302, 307, 308})
_MOVED_CODES = frozenset(
    {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect"}
)
# Messages about a server rather than about one object of it.
_OF_THE_SERVER = ("redirect without LOCATION", "Content-Length Header missing")


class _LeftToBoto3(Exception):
    """An answer that boto3 may understand.

    Attributes:
        whole_bucket: Whether the bucket's other objects will be answered in the same way.
    """

    def __init__(self, *, whole_bucket: bool) -> None:
        super().__init__()
        self.whole_bucket = whole_bucket


class ObstoreObjects:
    """Gets objects; safe to share between threads.

    Args:
        s3: S3 client whose settings, retries and limiter are used, and which fetches what obstore
            cannot.
    """

    def __init__(self, s3: S3) -> None:
        self._s3 = s3
        self._stores: dict[str, S3Store] = {}
        self._left_to_boto3: set[str] = set()  # buckets
        self._lock = threading.Lock()

    def fetch(self, location: S3Location, *, max_bytes: int) -> tuple[bytes, str | None]:
        """The content of an object and its ETag, without quotes.

        Raises:
            ObjectUnavailable: The object is missing, forbidden, unreachable, or larger than
                ``max_bytes`` (then nothing of it is downloaded).
            StorageError: The credentials are wrong, or the bucket does not exist.
        """
        by_boto3 = location.bucket in self._left_to_boto3 or not _is_plain(location.key)

        def attempt() -> tuple[bytes, str | None]:
            nonlocal by_boto3
            if not by_boto3:
                try:
                    return self._get(location, max_bytes)
                except TransientError:
                    # The network failed, or the answer is one that obstore takes for such a
                    # failure: boto3 has the last word on this object.
                    by_boto3 = True
                    raise
                except _LeftToBoto3 as left:
                    by_boto3 = True
                    if left.whole_bucket:
                        self._left_to_boto3.add(location.bucket)
            return self._s3.get_once(location, max_bytes=max_bytes)

        return self._s3.run(attempt, location, paced=True)

    def _get(self, location: S3Location, max_bytes: int) -> tuple[bytes, str | None]:
        store = self._store(location.bucket)
        try:
            answer = obstore.get(store, location.key)
            refuse_large(answer.meta["size"], max_bytes)
            return bytes(answer.bytes()), bare_etag(answer.meta["e_tag"])
        except (BaseError, FileNotFoundError) as error:
            raise self._as_botocore(error) from error

    def _store(self, bucket: str) -> S3Store:
        with self._lock:
            if bucket not in self._stores:
                connection = self._s3.connection()
                # Here, where botocore's errors are understood, rather than in a thread of obstore.
                connection.credentials()
                self._stores[bucket] = S3Store(
                    bucket,
                    # This one wins over all that the environment says; it names the bucket already.
                    aws_endpoint_url_s3=connection.bucket_url(bucket),
                    virtual_hosted_style_request=True,
                    region=connection.region,
                    credential_provider=self._credentials,
                    client_options=_client_options(),
                    retry_config={"max_retries": 0},
                )
            return self._stores[bucket]

    def _credentials(self) -> Any:
        access, secret, token = self._s3.connection().credentials()
        return {
            "access_key_id": access,
            "secret_access_key": secret,
            "token": token,
            "expires_at": datetime.now(UTC) + _CREDENTIALS,
        }

    def _as_botocore(self, error: Exception) -> Exception:
        said = str(error).partition(_DEBUG)[0]
        answer = _ANSWER.search(said)
        if answer is not None:
            return _answered(int(answer[1]), answer[2])
        if isinstance(error, UnauthenticatedError):
            self._s3.connection().credentials()  # fails as it did for obstore
        if "HTTP error: " in said:
            return TransientError(f"{type(error).__name__}: {said.rpartition(' - ')[2]}")
        return _LeftToBoto3(whole_bucket=any(part in said for part in _OF_THE_SERVER))


def _answered(status: int, body: str) -> Exception:
    """The error that boto3 makes of an answer that is no success."""
    response = {"status_code": status, "headers": {}, "body": body.encode()}
    parsed = create_parser("rest-xml").parse(response, None)
    if status in _MOVED or parsed["Error"]["Code"] in _MOVED_CODES:
        return _LeftToBoto3(whole_bucket=True)
    return ClientError(parsed, "GetObject")


def _is_plain(key: str) -> bool:
    """Whether obstore asks for this very key; it takes keys for paths and puts these in order."""
    parts = key.split("/")
    return key.isprintable() and not any(part in ("", ".", "..") for part in parts)


def _client_options() -> Any:
    options: dict[str, Any] = {
        "allow_http": True,  # as boto3: the endpoint that the user sets decides
        "connect_timeout": _CONNECT,
        "read_timeout": _READ,
        "timeout": _WHOLE,
    }
    if bundle := os.environ.get("AWS_CA_BUNDLE"):
        options["root_certificate"] = Path(bundle).read_bytes()
    return options
