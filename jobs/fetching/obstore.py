"""Objects of S3 through obstore, which needs a fraction of the processor time of boto3.

Endpoint, region and credentials come from the same AWS settings, retries are those of
`jobs.storage.retry`, and error answers are parsed by botocore, so that the reasons are the same.
boto3 does what obstore cannot: keys that obstore would change, buckets of another region, servers
behind a proxy, and answers that obstore cannot read, such as those without a Content-Length.

obstore does not show the checksum that S3 sends along. So an object is accepted only if the MD5 of
its content is its ETag, as it is for objects that were written in one piece and are not encrypted
with a key of the user's. Any other object is fetched again by boto3, which verifies the checksum;
a bucket of such objects is soon left to boto3 altogether.

obstore follows redirects. So every host but the bucket's own is given a proxy that does not exist:
a redirect to another host fails, and boto3, which follows none, says why.
"""

from __future__ import annotations

import hashlib
import re
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import obstore
from botocore.exceptions import ClientError
from botocore.parsers import create_parser
from botocore.utils import get_environ_proxies
from obstore.exceptions import BaseError, NotModifiedError, UnauthenticatedError
from obstore.store import S3Store

from jobs.storage.errors import NotModified
from jobs.storage.obstore_errors import answer_in, said_by
from jobs.storage.retry import TransientError, is_transient
from jobs.storage.s3 import S3, bare_etag, refuse_large
from jobs.values.locations import ObjectLocation, is_tidy

_CONNECT, _READ, _WHOLE = timedelta(seconds=10), timedelta(seconds=60), timedelta(minutes=5)
# botocore renews credentials that have less than ten minutes left.
_CREDENTIALS = timedelta(minutes=10)
# More than the threads that a short outage can catch at the same time.
_MISSES = 100
_NOWHERE = "http://127.0.0.1:0"  # nothing listens on port 0
_MD5 = re.compile("[0-9a-f]{32}")
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


@dataclass
class _Bucket:
    """What is known of a bucket.

    Attributes:
        store: Connection of obstore to the bucket; None before the first object.
        misses: Number of objects in succession that boto3 had an answer for, and obstore had not.
        left_to_boto3: Whether obstore is not asked any more.
    """

    store: S3Store | None = None
    misses: int = 0
    left_to_boto3: bool = False

    def count_miss(self) -> None:
        """Count one more object that boto3 had an answer for, and obstore had not."""
        self.misses += 1
        self.left_to_boto3 |= self.misses >= _MISSES


class ObstoreObjects:
    """Gets objects; safe to share between threads.

    Args:
        s3: S3 client whose settings, retries and limiter are used, and which fetches what obstore
            cannot.
    """

    def __init__(self, s3: S3) -> None:
        self._s3 = s3
        self._buckets: dict[str, _Bucket] = {}
        self._lock = threading.Lock()

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
        bucket = self._buckets.setdefault(location.bucket, _Bucket())
        by_boto3 = not is_tidy(location.key)
        missed = False

        def attempt() -> tuple[bytes, str | None]:
            nonlocal by_boto3, missed
            if not by_boto3 and self._open(location.bucket, bucket):
                try:
                    found = self._get(bucket, location.key, max_bytes, unless)
                except TransientError:
                    # The network failed, or the answer is one that obstore takes for such a
                    # failure: boto3 has the last word on this object.
                    by_boto3 = missed = True
                    raise
                except _LeftToBoto3 as left:
                    by_boto3 = missed = True
                    bucket.left_to_boto3 |= left.whole_bucket
                else:
                    bucket.misses = 0
                    return found
            try:
                found = self._s3.get_once(location, max_bytes=max_bytes, unless=unless)
            except Exception as error:
                if missed and not is_transient(error):
                    bucket.count_miss()
                raise
            if missed:
                bucket.count_miss()
            return found

        return self._s3.run(attempt, location, paced=True)

    def _get(
        self, bucket: _Bucket, key: str, max_bytes: int, unless: str | None
    ) -> tuple[bytes, str | None]:
        assert bucket.store is not None
        try:
            answer = obstore.get(
                bucket.store,
                key,
                options=None if unless is None else {"if_none_match": f'"{unless}"'},
            )
            refuse_large(answer.meta["size"], max_bytes)
            etag = bare_etag(answer.meta["e_tag"])
            if etag is None or not _MD5.fullmatch(etag):
                raise _LeftToBoto3(whole_bucket=False)
            data = bytes(answer.bytes())
        except (BaseError, FileNotFoundError) as error:
            if unless is not None and isinstance(error, NotModifiedError):
                bucket.misses = 0
                raise NotModified from None
            raise self._as_botocore(error) from error
        if hashlib.md5(data, usedforsecurity=False).hexdigest() != etag:
            raise _LeftToBoto3(whole_bucket=False)
        return data, etag

    def _open(self, name: str, bucket: _Bucket) -> bool:
        """Connect to a bucket, unless this was done; whether obstore is to be asked."""
        with self._lock:
            if bucket.store is None and not bucket.left_to_boto3:
                connection = self._s3.connection()
                # Here, where errors of botocore are handled, rather than in a thread of obstore.
                connection.credentials()
                url = connection.bucket_url(name)
                if urlsplit(url).scheme in get_environ_proxies(url):
                    bucket.left_to_boto3 = True
                    return False
                bucket.store = S3Store(
                    name,
                    # It overrides the environment, and contains the bucket.
                    aws_endpoint_url_s3=url,
                    virtual_hosted_style_request=True,
                    region=connection.region,
                    credential_provider=self._credentials,
                    client_options=_client_options(url, connection.ca_bundle),
                    retry_config={"max_retries": 0},
                )
            return not bucket.left_to_boto3

    def _credentials(self) -> Any:
        connection = self._s3.connection()
        access, secret, token = connection.credentials()
        valid = timedelta(0) if connection.credentials_expire() else _CREDENTIALS
        return {
            "access_key_id": access,
            "secret_access_key": secret,
            "token": token,
            "expires_at": datetime.now(UTC) + valid,
        }

    def _as_botocore(self, error: Exception) -> Exception:
        if answer := answer_in(error):
            return _answered(*answer)
        said = said_by(error)
        if isinstance(error, UnauthenticatedError):
            self._s3.connection().credentials()  # raises the error that obstore had
        if "HTTP error: " in said:
            return TransientError(f"{type(error).__name__}: {said.rpartition(' - ')[2]}")
        return _LeftToBoto3(whole_bucket=any(part in said for part in _OF_THE_SERVER))


def _answered(status: int, body: str) -> Exception:
    """The error that boto3 raises for an answer that is not a success."""
    response = {"status_code": status, "headers": {}, "body": body.encode()}
    parsed = create_parser("rest-xml").parse(response, None)
    if status in _MOVED or parsed["Error"]["Code"] in _MOVED_CODES:
        return _LeftToBoto3(whole_bucket=True)
    return ClientError(parsed, "GetObject")


def _client_options(url: str, ca_bundle: str | None) -> Any:
    place = urlsplit(url)
    options: dict[str, Any] = {
        "allow_http": place.scheme == "http",  # as boto3: the user's endpoint decides
        "proxy_url": _NOWHERE,
        "proxy_excludes": place.hostname,
        "connect_timeout": _CONNECT,
        "read_timeout": _READ,
        "timeout": _WHOLE,
    }
    if ca_bundle:
        options["root_certificate"] = Path(ca_bundle).read_bytes()
    return options
