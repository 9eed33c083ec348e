"""Images from web servers: over HTTPS, and only from hosts that the user named.

The author of a list decides what this machine connects to. Hence the list of allowed hosts, the
check of their addresses (`jobs.fetching.public_hosts`), and redirects that are followed only where
the same rules allow it.
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Collection, Sequence
from typing import Any
from urllib.parse import urljoin

import urllib3
from urllib3.exceptions import HTTPError, LocationParseError, MaxRetryError, SSLError
from urllib3.util import Url, parse_url

from handler.values.errors import VeaError
from jobs.fetching.public_hosts import PrivateAddress, public_pools
from jobs.storage.errors import ObjectUnavailable, StorageError, one_line
from jobs.storage.rate_limit import Closed
from jobs.storage.retry import (
    Retries,
    RetriesExhausted,
    TransientError,
    is_throttling_status,
    is_transient_status,
)
from jobs.storage.s3 import bare_etag, refuse_large

_HOST = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*(:[0-9]{1,5})?")
_REDIRECTS = 3
_BLOCK = 256 * 1024
# Some servers answer 403 to programs without a name.
_HEADERS = {"User-Agent": "vea", "Accept": "image/*", "Accept-Encoding": "identity"}
_REFUSED = {401: "forbidden", 403: "forbidden", 404: "missing", 410: "missing"}


class HostError(VeaError):
    """This is not a valid host name; the message is one line for people."""


class HttpsImages:
    """Fetches images by URL; safe to share between threads.

    Args:
        retries: Retry settings of every request.
        hosts: Hosts that may be requested: ``images.example.org``, or ``*.example.org`` for
            everything below that name (and not the name itself). Port 443, unless ``:port``
            follows.
        insecure_origins: Origins such as ``http://127.0.0.1:8080`` that are allowed although they
            are not public or not encrypted; for servers of tests.
        connections: Number of connections kept open to each host.
        seconds: Time limit of one attempt, in seconds. A server that sends a byte a second would
            never run into the timeout of a single read.

    Raises:
        HostError: One of ``hosts`` is not a valid host name.
    """

    def __init__(
        self,
        retries: Retries,
        hosts: Sequence[str] = (),
        *,
        insecure_origins: Collection[str] = (),
        connections: int = 64,
        seconds: float = 120.0,
    ) -> None:
        self._retries = retries
        self._hosts = [_host(text) for text in hosts]
        self._insecure = frozenset(insecure_origins)
        self._seconds = seconds
        options: dict[str, Any] = {
            "num_pools": 100,  # hosts whose connections are kept
            "maxsize": connections,
            "timeout": urllib3.Timeout(connect=10, read=30),
            "retries": False,
            "headers": _HEADERS,
        }
        self._public = public_pools(**options)
        self._any = urllib3.PoolManager(**options)

    def fetch(self, location: str, *, max_bytes: int) -> tuple[bytes, str | None]:
        """The content behind a URL and its ETag, without quotes.

        Raises:
            ObjectUnavailable: The image is not allowed, missing, forbidden, unreachable, or larger
                than ``max_bytes`` (no more than that is downloaded).
            StorageError: The job is being stopped.
        """
        url = self._check(location)
        try:
            return self._retries.run(lambda: self._attempt(url, max_bytes), paced=True)
        except RetriesExhausted as error:
            raise ObjectUnavailable(
                "unreachable",
                f"{url.host} fails after {error.attempts} attempts: {one_line(str(error.cause))}",
            ) from error
        except Closed:
            raise StorageError("the job is being stopped") from None

    def _attempt(self, url: Url, max_bytes: int) -> tuple[bytes, str | None]:
        end = time.monotonic() + self._seconds
        for _ in range(_REDIRECTS + 1):
            response = self._ask(url)
            try:
                target = response.get_redirect_location()
                if not target:
                    _check_status(response.status)
                    data = _read(response, max_bytes, end)
                    response.release_conn()
                    return data, bare_etag(response.headers.get("ETag"))
            finally:
                # No effect on a connection that was read to its end and released.
                response.close()
            try:
                further = urljoin(url.url, str(target))
            except ValueError:  # such as brackets around something that is not an address
                further = str(target)
            url = self._check(further, "it redirects: ")
        raise ObjectUnavailable("refused", f"the server redirects more than {_REDIRECTS} times")

    def _ask(self, url: Url) -> urllib3.BaseHTTPResponse:
        pools = self._any if _origin(url) in self._insecure else self._public
        try:
            return pools.request("GET", url.url, preload_content=False, redirect=False)
        except PrivateAddress as error:
            raise ObjectUnavailable("bad-location", str(error)) from None
        except HTTPError as error:
            raise _sort(error) from error

    def _check(self, location: str, before: str = "") -> Url:
        try:
            url = parse_url(location)
            (url.host or "").encode("idna")  # looking up its address would fail likewise
        except (LocationParseError, UnicodeError):
            url = Url()
        if not url.host or url.scheme not in ("https", "http"):
            raise ObjectUnavailable("bad-location", f"{before}'{location}' is not a valid URL")
        if url.auth:
            raise ObjectUnavailable(
                "bad-location", f"{before}a URL with a user name in it is not accepted"
            )
        if _origin(url) not in self._insecure:
            if url.scheme != "https":
                raise ObjectUnavailable(
                    "bad-location", f"{before}http:// is not encrypted: expected https://"
                )
            self._check_host(url.host, url.port or 443, before)
        return url

    def _check_host(self, host: str, port: int, before: str) -> None:
        for allowed, allowed_port in self._hosts:
            # "*.example.org" covers what ends in ".example.org".
            covered = host.endswith(allowed[1:]) if allowed[0] == "*" else host == allowed
            if covered and port == allowed_port:
                return
        name = host if port == 443 else f"{host}:{port}"
        raise ObjectUnavailable(
            "bad-location",
            f"{before}the host '{name}' is not among those that images may be fetched from: "
            f"allow it with --allow-host {name}",
        )


def _host(text: str) -> tuple[str, int]:
    host = text.lower().rstrip(".")
    if not _HOST.fullmatch(host):
        raise HostError(
            f"'{text}' is not a host: expected a name such as images.example.org, or "
            "*.example.org for all names below it"
        )
    name, _, port = host.partition(":")
    return name, int(port or 443)


def _origin(url: Url) -> str:
    return f"{url.scheme}://{url.netloc}"


def _check_status(status: int) -> None:
    if status == 200:
        return
    said = f"the server answers with status {status}"
    if is_transient_status(status):
        raise TransientError(said, throttled=is_throttling_status(status))
    raise ObjectUnavailable(_REFUSED.get(status, "refused"), said)


def _read(response: urllib3.BaseHTTPResponse, max_bytes: int, end: float) -> bytes:
    announced = _length(response.headers.get("Content-Length", ""))
    if announced is not None:
        refuse_large(announced, max_bytes)
    found = bytearray()
    try:
        # One byte above the limit is enough to know. `read1` returns what has arrived, so that the
        # time limit holds however slowly bytes arrive.
        while len(found) <= max_bytes:
            block = response.read1(min(_BLOCK, max_bytes + 1 - len(found)), decode_content=False)
            if not block:
                break
            found += block
            if time.monotonic() > end:
                raise TransientError("the server takes too long")
    except HTTPError as error:
        raise _sort(error) from error
    refuse_large(len(found), max_bytes)
    if announced is not None and len(found) < announced:
        raise TransientError(f"the answer ends after {len(found)} of {announced} bytes")
    return bytes(found)


def _sort(error: HTTPError) -> Exception:
    cause = error.reason if isinstance(error, MaxRetryError) else error
    if isinstance(cause, SSLError) and isinstance(cause.args[0], ssl.SSLCertVerificationError):
        reason = f"TLS certificate verification failed: {one_line(str(cause.args[0]))}"
        return ObjectUnavailable("refused", reason)
    return TransientError(one_line(str(cause)))


def _length(text: str) -> int | None:
    # A longer number is no length, and may be more than `int` accepts.
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
