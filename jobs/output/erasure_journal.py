"""One process at a time removes rows of a run: two that replace a file would bring rows back.

    _run/erasing.json                    who is at work since when
    _run/erasing.json-<of a record>      who took the place of one that was killed

Who begins creates the record, which only one can. If the record is that of a process that is gone,
its place is taken by creating an object whose name follows from it, so of several that find it only
one succeeds; and so on, if that one is killed as well. The first record is deleted first: whoever
takes a place sees by it whether the work has ended meanwhile.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from handler.values.errors import VeaError
from jobs.storage.folders import Folder, ObjectMissing
from jobs.values.layout import JOURNAL

_STALE = timedelta(hours=1)


class ErasureError(VeaError):
    """Rows cannot be removed; the message is one line for people."""


@contextmanager
def sole_work(folder: Folder) -> Iterator[list[str]]:
    """Record that this process removes rows; after an error the record stays, as after a kill.

    Args:
        folder: Folder of the run.

    Yields:
        Names of the records, in the order in which they have to be deleted at the end.

    Raises:
        ErasureError: Another process removes rows of this run.
    """
    names = _take(folder)
    yield names
    for name in names:
        folder.delete([name])


def _take(folder: Folder) -> list[str]:
    mine = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": datetime.now(UTC).isoformat(),
    }
    record = json.dumps(mine, indent=2).encode() + b"\n"
    names, found = [JOURNAL], list[bytes]()
    while True:
        if folder.create(names[-1], record):
            if not found or _read(folder, JOURNAL) == found[0]:
                return names
            folder.delete([names[-1]])  # the work has ended meanwhile
            names, found = [JOURNAL], []
            continue
        other = _read(folder, names[-1])
        if other is None:
            names, found = [JOURNAL], []
            continue
        _refuse_if_at_work(other, folder)
        found.append(other)
        names.append(f"{JOURNAL}-{hashlib.sha256(other).hexdigest()[:16]}")


def _read(folder: Folder, name: str) -> bytes | None:
    try:
        return folder.read(name)
    except ObjectMissing:
        return None


def _refuse_if_at_work(record: bytes, folder: Folder) -> None:
    try:
        other = json.loads(record)
        since = datetime.fromisoformat(other["since"])
        host, pid = str(other["host"]), int(other["pid"])
        is_recent = datetime.now(UTC) - since < _STALE
    except (ValueError, KeyError, TypeError):
        return
    if is_recent and _is_at_work(host, pid):
        raise ErasureError(
            f"process {pid} on {host} has been removing rows of {folder.location} since "
            f"{since:%H:%M} UTC: wait for it; if it is gone, delete {JOURNAL} there"
        )


def _is_at_work(host: str, pid: int) -> bool:
    """Whether the process runs; of another machine's processes nothing is known, so it may."""
    if host != socket.gethostname():
        return True
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to somebody else
        return True
    return True
