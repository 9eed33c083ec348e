"""`vea fetch-weights`: a published file comes over the network, whole and unchanged.

An interrupted download resumes where it stopped, if the server says that the file is still the
same one (`If-Range`, RFC 9110, section 13.1.5); a file that changed meanwhile is begun anew. What
came is checked against the published SHA-256, or its published first digits, and against what came
before: the first fetch of a file is recorded in ``fetched.json`` in the weights home, and another
file under the same name is refused from then on.
"""

from __future__ import annotations

import errno
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
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

from train.weights.home import WeightsError, file_sha256
from train.weights.sources import SOURCES, Published

RECORD = "fetched.json"
OnBytes = Callable[[int, int], None]

_TIMEOUT = 30.0  # seconds without a byte
_CHUNK = 1 << 20
# Errors of writing that name no file; all others of that kind are of the network.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Tries in a row that bring nothing new, and the seconds before the next.
_PAUSES = (1.0, 3.0)


class _Cut(Exception):
    """The connection ended early, or the server asks to come back later."""


@dataclass(frozen=True)
class Fetched:
    """What a fetch brought.

    Attributes:
        path: the file.
        sha256: hex.
        checked: what the SHA-256 was compared with, in words.
        temporary: the file was downloaded and may be deleted once it is imported.
    """

    path: Path
    sha256: str
    checked: str
    temporary: bool


def fetch(
    name: str,
    *,
    home: Path,
    place: str | None = None,
    on_progress: OnBytes = lambda done, total: None,
    pause: Callable[[float], None] = time.sleep,
) -> Fetched:
    """Get a published file.

    Args:
        name: a key of `SOURCES`.
        home: the weights home; downloads and the record lie in it.
        place: a mirror: an address (of the file, or of the folder that holds it), or a local folder
            (or file); the published address if left out.
        on_progress: called with the bytes so far and all of them (0: not known).
        pause: waits for so many seconds.

    Raises:
        WeightsError: it is not known, not to be had, or not the published file; the message says
            what to do.
    """
    if name not in SOURCES:
        raise WeightsError(f"unknown weights '{name}': expected one of {', '.join(SOURCES)}")
    published = SOURCES[name]
    by_hand = f"download {published.file} by hand from {published.page}"
    by_hand += " and run `vea import-weights FILE`"
    if place is None and not published.url:
        raise WeightsError(f"'{name}' has no stable address: {by_hand}")
    where = place or published.url
    if "://" not in where:
        path = _local(Path(where).expanduser(), published.file)
        digest = file_sha256(path)
        return Fetched(path, digest, _check(name, published, digest, path, home), False)
    if place is not None and unquote(urlsplit(where).path).rpartition("/")[2] != published.file:
        where = f"{where.rstrip('/')}/{published.file}"
    target = home / "downloads" / name / published.file
    try:
        if not target.is_file():
            _download(where, target, on_progress, pause)
        digest = file_sha256(target)
    except _Cut as error:
        raise WeightsError(
            f"the connection to {where} broke ({error}): run the command again to resume where it "
            f"stopped, or {by_hand}"
        ) from None
    except WeightsError as error:
        raise WeightsError(f"{error}: give another place with --from, or {by_hand}") from None
    except OSError as error:
        raise WeightsError(f"cannot write to {target.parent}: {error.strerror or error}") from None
    try:
        checked = _check(name, published, digest, where, home)
    except WeightsError:
        target.unlink()
        raise
    return Fetched(target, digest, checked, True)


def discard(fetched: Fetched) -> None:
    """Delete a download that is not needed any more."""
    if fetched.temporary:
        shutil.rmtree(fetched.path.parent, ignore_errors=True)


def _local(place: Path, file: str) -> Path:
    path = place / file if place.is_dir() else place
    if not path.is_file():
        raise WeightsError(
            f"there is no {path}: expected a folder that holds {file}, or an http(s) address"
        )
    return path


def _check(name: str, published: Published, digest: str, where: str | Path, home: Path) -> str:
    """Compare with what is published and with what came before; record what is new.

    Raises:
        WeightsError: it is another file.
    """
    record = home / RECORD
    known = _read_record(record)
    before = known.get(name, {}).get("sha256")
    if not digest.startswith(published.sha256):
        raise WeightsError(
            f"what came from {where} is not {published.file}: its SHA-256 begins with "
            f"{digest[: len(published.sha256)]}, expected {published.sha256}; "
            f"get it from another place (--from), or by hand from {published.page}"
        )
    if before and before != digest:
        raise WeightsError(
            f"what came from {where} is not the {published.file} fetched before: its SHA-256 is "
            f"{digest}, recorded is {before}; if the change is meant, delete '{name}' from {record}"
        )
    if before:
        return "as recorded"
    known[name] = {"file": published.file, "from": str(where), "sha256": digest}
    try:
        home.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
    except OSError as error:
        raise WeightsError(f"cannot write {record}: {error.strerror or error}") from None
    return "begins as published" if published.sha256 else "none is published, recorded from now on"


def _read_record(record: Path) -> dict[str, dict[str, str]]:
    try:
        known = json.loads(record.read_text())
        return {str(name): dict(entry) for name, entry in known.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError):
        raise WeightsError(f"{record} is damaged: delete it to begin anew") from None


def _download(url: str, target: Path, on_progress: OnBytes, pause: Callable[[float], None]) -> None:
    """Bring ``url`` to ``target``, over as many connections as it takes.

    Raises:
        _Cut: several connections in a row brought nothing new.
        WeightsError: the server has no such file, or the address is not to be used.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.partial")
    most, fruitless = _size(partial), 0
    while True:
        try:
            _continue(url, partial, on_progress)
            break
        except _Cut:
            if _size(partial) > most:
                most, fruitless = _size(partial), 0
                continue
            if fruitless == len(_PAUSES):
                raise
            pause(_PAUSES[fruitless])
            fruitless += 1
    partial.replace(target)
    _note(partial).unlink(missing_ok=True)


def _continue(url: str, partial: Path, on_progress: OnBytes) -> None:
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
            raise _Cut(f"{error.code} {error.reason}") from None
        raise WeightsError(f"{url} answers {error.code} {error.reason}") from None
    except (URLError, HTTPException, OSError) as error:
        if isinstance(error, OSError) and (error.filename or error.errno in _DISK):
            raise
        raise _Cut(str(getattr(error, "reason", "") or error or type(error).__name__)) from None
    if total and done != total:
        raise _Cut(f"{done} of {total} bytes came")


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
        raise _Cut(f"the server sent bytes {span or '?'} instead of {start}-")
    return start, int(size) if size.isdigit() else 0


def _note(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.json")


def _validator(partial: Path, url: str) -> str:
    """What identifies the version of the file that ``partial`` is the beginning of."""
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
        raise WeightsError(f"{request.full_url} is no http(s) address")
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
