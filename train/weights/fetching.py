"""`vea fetch-weights`: a published file, downloaded and checked.

The file is checked against its published SHA-256, or its published first digits, and against
earlier downloads: the first fetch of a file is recorded in ``fetched.json`` in the weights home,
and another file under the same name is refused from then on.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from train.weights.download import ConnectionLost, OnBytes, download
from train.weights.home import WeightsError, file_sha256
from train.weights.sources import SOURCES, Published

RECORD = "fetched.json"


@dataclass(frozen=True)
class Fetched:
    """Result of a fetch.

    Attributes:
        path: Path of the file.
        sha256: SHA-256 of the file, in hexadecimal digits.
        checked: Description of what the SHA-256 was compared with.
        temporary: Whether the file was downloaded and may be deleted after the import.
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
        name: Name of the weights, a key of `SOURCES`.
        home: Folder of the weights, downloads and record.
        place: Mirror: an address (of the file, or of the folder that holds it), or a local folder
            (or file); the published address if left out.
        on_progress: Callback with (bytes so far, bytes in all), the latter 0 where unknown.
        pause: Function that waits for a number of seconds.

    Raises:
        WeightsError: The name is unknown, the file cannot be fetched, or it is not the published
            one; the message says what to do.
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
            download(where, target, on_progress, pause)
        digest = file_sha256(target)
    except ConnectionLost as error:
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
    """Delete a download that is no longer needed."""
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
    """Compare a digest with the published and the recorded one; record a new one.

    Raises:
        WeightsError: The file is another one.
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
        raise WeightsError(f"{record} is damaged: delete it to start a new record") from None
