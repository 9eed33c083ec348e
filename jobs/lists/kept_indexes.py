"""Indexes of archives, kept in the output folder until the run is finished.

Whoever goes on with an interrupted run then need not read the archives once more only to know what
is in them. An index is known by the archive's version, so that one of another archive is never
taken for it.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from contextlib import suppress

from handler.values.errors import VeaError
from jobs.lists.tar_index import TarIndex
from jobs.storage.folders import Folder, ObjectMissing
from jobs.values.layout import IDENTITY, INDEX, RUN


class KeptIndexes:
    """The indexes in an output folder; safe to share between threads.

    Args:
        folder: Folder of the output. If it belongs to a run already that has kept none, nothing is
            written, since the run may be another one.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        names = folder.list(RUN)
        self._there = {name for name in names if name.startswith(INDEX)}
        self._writes = bool(self._there) or IDENTITY not in names

    def load(self, name: str) -> TarIndex | None:
        """The index of a name; None if there is none that can be read."""
        if name not in self._there:
            return None
        try:
            head, _, lines = self._folder.read(name).partition(b"\n")
            found = json.loads(head)
            index = TarIndex(
                found["version"],
                tempfile.TemporaryFile(),  # noqa: SIM115 - the caller closes it
                dict.fromkeys(found["columns"]),
                dict.fromkeys(found["endings"]),
                Counter(found["left_out"]),
                found["unread_texts"],
            )
        except (ObjectMissing, ValueError, KeyError, TypeError):
            return None
        index.lines.write(lines)
        return index

    def store(self, name: str, index: TarIndex) -> None:
        """Keep an index; without the right to do so, it is made again when it is needed."""
        if not self._writes:
            return
        index.lines.seek(0)
        head = {
            "version": index.version,
            "columns": list(index.columns),
            "endings": list(index.endings),
            "left_out": dict(index.left_out),
            "unread_texts": index.unread_texts,
        }
        with suppress(VeaError):
            self._folder.write(name, json.dumps(head).encode() + b"\n" + index.lines.read())
