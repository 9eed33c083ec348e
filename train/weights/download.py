"""A download over HTTP that resumes where it was interrupted.

It resumes if the server says that the file is still the same one (`If-Range`, RFC 9110, section
13.1.5); a file that has changed is downloaded from its start.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

from train.weights.home import WeightsError

OnBytes = Callable[[int, int], None]
_TIMEOUT = 30.0  # seconds without a byte
_CHUNK = 1 << 20
# Errors of writing that name no file; all others of that kind are of the network.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Tries in a row that bring nothing new, and the seconds before the next.
_PAUSES = (1.0, 3.0)


class ConnectionLost(Exception):
    """The connection ended early, or the server asks to come back later."""


def download(url: str, target: Path, on_progress: OnBytes, pause: Callable[[float], None]) -> None:
    """Download ``url`` to ``target``, over as many connections as it takes.

    Raises:
        ConnectionLost: Several connections in a row brought nothing new.
        WeightsError: The server does not have the file, or the address must not be used.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.partial")
    reached, fruitless = _size(partial), 0
    while True:
        try:
            _one_connection(url, partial, on_progress)
            break
        except ConnectionLost:
            if _size(partial) > reached:
                reached, fruitless = _size(partial), 0
                continue
            if fruitless == len(_PAUSES):
                raise
            pause(_PAUSES[fruitless])
            fruitless += 1
    partial.replace(target)
    _note(partial).unlink(missing_ok=True)


def _one_connection(url: str, partial: Path, on_progress: OnBytes) -> None:
    """One connection: from where ``partial`` ends to the end of the file."""
    validator = _validator(partial, url)
    start = _size(partial) if validator else 0
    headers = {"Accept-Encoding": "identity", "User-Agent": "vea"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": validator}
    try:
        with _open(Request(url, headers=headers)) as response:
            if response.status == 206:
                start, total = _range(response, start)
            else:  # the server sends the whole file: it changed, or ranges are unknown there
                start, total = 0, int(response.headers.get("Content-Length") or 0)
            _save_note(partial, url, response)
            done = _receive(response, partial, start, total, on_progress)
    except HTTPError as error:
        if error.code == 416:  # the file ends before: it is here already, or what is here is wrong
            if error.headers.get("Content-Range", "").rpartition("/")[2] == str(start):
                return
            _note(partial).unlink(missing_ok=True)
        if error.code in (408, 416, 425, 429) or error.code >= 500:
            raise ConnectionLost(f"{error.code} {error.reason}") from None
        raise WeightsError(f"{url} answers {error.code} {error.reason}") from None
    except (URLError, HTTPException, OSError) as error:
        if isinstance(error, OSError) and (error.filename or error.errno in _DISK):
            raise
        raise ConnectionLost(
            str(getattr(error, "reason", "") or error or type(error).__name__)
        ) from None
    if total and done != total:
        raise ConnectionLost(f"{done} of {total} bytes came")


def _receive(
    response: HTTPResponse, partial: Path, start: int, total: int, on_progress: OnBytes
) -> int:
    """Write the body behind the first ``start`` bytes; returns the size reached."""
    done = start
    with partial.open("r+b" if start else "wb") as file:
        file.seek(start)
        file.truncate()
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            done += len(chunk)
            on_progress(done, total)
    return done


def _range(response: HTTPResponse, start: int) -> tuple[int, int]:
    """First byte and whole size out of ``Content-Range: bytes FIRST-LAST/SIZE``."""
    unit, _, rest = response.headers.get("Content-Range", "").partition(" ")
    span, _, size = rest.partition("/")
    first = span.partition("-")[0]
    if unit != "bytes" or first != str(start):
        raise ConnectionLost(f"the server sent bytes {span or '?'} instead of {start}-")
    return start, int(size) if size.isdigit() else 0


def _note(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.json")


def _validator(partial: Path, url: str) -> str:
    """The validator (ETag or date) of the version of the file that ``partial`` is a part of."""
    try:
        note = json.loads(_note(partial).read_text())
        return str(note["validator"]) if note["url"] == url else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _save_note(partial: Path, url: str, response: HTTPResponse) -> None:
    # A weak tag promises the same meaning, not the same bytes: useless for resuming.
    tag = response.headers.get("ETag", "")
    validator = response.headers.get("Last-Modified", "") if tag[:2] in ("", "W/") else tag
    _note(partial).write_text(json.dumps({"url": url, "validator": validator}))


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


class _Redirects(HTTPRedirectHandler):
    """Follows redirects to http and https, and never from https back to http."""

    def redirect_request(self, req: Request, *arguments: Any) -> Request | None:
        """The request to the new address."""
        new = arguments[-1]
        before, after = urlsplit(req.full_url).scheme, urlsplit(new).scheme
        if after not in ("http", "https") or (before, after) == ("https", "http"):
            raise WeightsError(f"{req.full_url} redirects to {new}, which is not safe to follow")
        return super().redirect_request(req, *arguments)


def _open(request: Request) -> HTTPResponse:
    """Send a request; no schemes but http and https are known."""
    if urlsplit(request.full_url).scheme not in ("http", "https"):
        raise WeightsError(f"{request.full_url} is not an http(s) address")
    opener = OpenerDirector()
    for handler in (
        ProxyHandler(),
        HTTPHandler(),
        HTTPSHandler(),
        _Redirects(),
        HTTPDefaultErrorHandler(),
        HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener.open(request, timeout=_TIMEOUT)
