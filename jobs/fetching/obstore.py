"""Objects of S3 through obstore, which spends a fraction of the processor time of boto3.

Endpoint, region and credentials come from the same AWS settings, retries are our own, and failures
are turned into botocore's, so that they mean the same and read the same. What obstore cannot do,
boto3 does: keys that obstore would spell otherwise, and buckets of another region.
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
from obstore.exceptions import BaseError, UnauthenticatedError
from obstore.store import S3Store

from jobs.storage.retry import TransientError
from jobs.storage.s3 import S3, bare_etag, refuse_large
from jobs.values.locations import S3Location

_CONNECT, _READ, _WHOLE = timedelta(seconds=10), timedelta(seconds=60), timedelta(minutes=5)
# botocore renews credentials that have less than ten minutes left.
_CREDENTIALS = timedelta(minutes=10)
_ANSWER = re.compile(r" - Server returned non-2xx status code: (\d{3})(.*)", re.DOTALL)
_DEBUG = "\n\nDebug source"
_MOVED = frozenset({301, 302, 307, 308})


class _Elsewhere(Exception):
    """The server says that the bucket is to be asked for in another region."""


class ObstoreObjects:
    """Gets objects; safe to share between threads.

    Args:
        s3: whose settings, retries and limiter are used, and which gets what obstore cannot.
    """

    def __init__(self, s3: S3) -> None:
        self._s3 = s3
        self._stores: dict[str, S3Store] = {}
        self._elsewhere: set[str] = set()
        self._lock = threading.Lock()

    def fetch(self, location: S3Location, *, max_bytes: int) -> tuple[bytes, str | None]:
        """The content of an object and its ETag, without quotes.

        Raises:
            ObjectUnavailable: it is missing, forbidden, unreachable, or larger than ``max_bytes``
                (then nothing of it is downloaded).
            StorageError: wrong credentials or a missing bucket.
        """

        def attempt() -> tuple[bytes, str | None]:
            store = self._store(location.bucket)
            try:
                answer = obstore.get(store, location.key)
                refuse_large(answer.meta["size"], max_bytes)
                return bytes(answer.bytes()), bare_etag(answer.meta["e_tag"])
            except (BaseError, FileNotFoundError) as error:
                raise self._as_botocore(error) from error

        if location.bucket not in self._elsewhere and _is_plain(location.key):
            try:
                return self._s3.run(attempt, location, paced=True)
            except _Elsewhere:
                self._elsewhere.add(location.bucket)
        return self._s3.fetch(location, max_bytes=max_bytes)

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
        if answer is None:
            if isinstance(error, UnauthenticatedError):
                self._s3.connection().credentials()  # fails as it did for obstore
            return TransientError(f"{type(error).__name__}: {said.rpartition(' - ')[2]}")
        status, body = int(answer[1]), answer[2]
        code = _element("Code", body) or str(status)
        if status in _MOVED or code == "AuthorizationHeaderMalformed":
            return _Elsewhere()
        return ClientError(
            {
                "Error": {"Code": code, "Message": _element("Message", body)},
                "ResponseMetadata": {"HTTPStatusCode": status},
            },
            "GetObject",
        )


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


def _element(name: str, text: str) -> str:
    found = re.search(f"<{name}>([^<]*)</{name}>", text)
    return found[1] if found else ""
