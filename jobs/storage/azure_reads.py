"""Reads blobs of Azure with their Content-MD5, which obstore does not show.

A request carries what the settings have: the account's key as its signature, a shared access
signature, or nothing for public containers. With Microsoft Entra ID only obstore has a token; blobs
are then read by obstore.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any
from urllib.parse import quote, urlsplit

import urllib3
from botocore.utils import get_environ_proxies
from urllib3.exceptions import HTTPError

from jobs.storage.errors import NotModified
from jobs.storage.obstore_connection import ObstoreConnection
from jobs.storage.obstore_errors import of_answer
from jobs.storage.opened import Opened
from jobs.storage.retry import TransientError
from jobs.storage.s3 import bare_etag

_VERSION = "2021-12-02"  # of Azure's interface
_BLOCK = 1024 * 1024
_LONGEST_ERROR = 10_000


class AzureReads:
    """Opens blobs of one container; safe to share between threads.

    Args:
        connection: Connection to the container.
        connections: Number of connections kept open.
    """

    def __init__(self, connection: ObstoreConnection, *, connections: int) -> None:
        settings = connection.settings
        self._url = f"{connection.endpoint}/{connection.bucket}"
        self._account = settings["account_name"]
        self._key = base64.b64decode(settings.get("account_key", ""))
        self._query = settings.get("sas_key", "").lstrip("?")
        options: dict[str, Any] = {
            "maxsize": connections,
            "timeout": urllib3.Timeout(connect=10, read=60),
            "retries": False,
        }
        proxy = get_environ_proxies(self._url).get(urlsplit(self._url).scheme)
        self._pools = (
            urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
        )

    @staticmethod
    def are_possible(connection: ObstoreConnection) -> bool:
        """Whether the settings have what requests need."""
        settings = connection.settings
        return "account_name" in settings and any(
            name in settings for name in ("account_key", "sas_key", "skip_signature")
        )

    def open(self, key: str, unless: str | None = None) -> Opened:
        """Request a blob; the content is read block by block.

        Args:
            key: Name of the blob.
            unless: ETag of the content that the caller needs no more, without quotes.

        Raises:
            NotModified: The blob has the ETag ``unless``.
            StoreAnswer: The server refuses.
            TransientError: The request failed, and may succeed later.
        """
        url = f"{self._url}/{quote(key, safe='/~')}"
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": _VERSION}
        condition = "" if unless is None else f'"{unless}"'
        if self._key:
            headers["Authorization"] = self._signature(urlsplit(url).path, headers, condition)
        elif self._query:
            url = f"{url}?{self._query}"
        if condition:
            headers["If-None-Match"] = condition
        try:
            answer = self._pools.request("GET", url, headers=headers, preload_content=False)
            if answer.status == 304 and condition:
                answer.release_conn()
                raise NotModified
            if answer.status != 200:
                body = answer.read(_LONGEST_ERROR)
                answer.release_conn()
                raise of_answer(
                    answer.status,
                    body.decode(errors="replace"),
                    answer.headers.get("x-ms-error-code", ""),
                )
        except HTTPError as error:
            raise TransientError(f"{type(error).__name__}: {error}") from error
        size = answer.headers.get("Content-Length")
        return Opened(
            size=int(size) if size else None,
            etag=bare_etag(answer.headers.get("ETag")),
            md5=_hexadecimal(answer.headers.get("Content-MD5")),
            blocks=_blocks(answer),
        )

    def _signature(self, path: str, headers: dict[str, str], condition: str) -> str:
        """The header Authorization, as Azure's "Authorize with Shared Key" describes it."""
        ours = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()))
        # Of the eleven standard headers, only the ninth is ever sent: If-None-Match.
        standard = "\n" * 8 + condition + "\n" * 3
        text = f"GET\n{standard}{ours}/{self._account}{path}"
        digest = hmac.new(self._key, text.encode(), hashlib.sha256).digest()
        return f"SharedKey {self._account}:{base64.b64encode(digest).decode()}"


def _blocks(answer: Any) -> Iterator[bytes]:
    try:
        while block := answer.read(_BLOCK, decode_content=False):
            yield block
        answer.release_conn()
    except HTTPError as error:
        raise TransientError(f"{type(error).__name__}: {error}") from error
    finally:
        answer.close()  # no effect on a connection that was read to its end and released


def _hexadecimal(header: str | None) -> str | None:
    try:
        return base64.b64decode(header, validate=True).hex() if header else None
    except binascii.Error:
        return None
