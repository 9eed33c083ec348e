"""Tar archives in place of a list: each picture in them is a row.

The archives are read through once, several at a time, to know how many pictures there are and where
each lies. Texts beside the pictures become columns; which, is decided by all archives together.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import pyarrow as pa

from jobs.lists.columns import ListError, kept_columns
from jobs.lists.snapshot import ListSnapshot
from jobs.lists.tar_index import Indexes, TarIndex, index_tar
from jobs.storage.stores import Stores
from jobs.values.chunks import Entry
from jobs.values.inside import Inside, InTar, Unusable

_AT_A_TIME = 8
_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.zstd", ".tzst")


def is_tar(location: str) -> bool:
    """Whether a location names a tar archive, compressed or not."""
    return location.lower().endswith(_SUFFIXES)


class TarList:
    """The pictures of archives, in the order of the archives and of their members.

    Args:
        location: Location of the list as the user gave it, for messages.
        files: Locations of the archives; whole ones, since they are part of every row.
        stores: Clients of the object stores.
        column: Ending of the pictures that count, such as ``jpg``; None for all pictures.
        keep: Endings that pass through: of texts, or of the pictures themselves, whose bytes the
            workers fill in. None for all texts.
        indexes: Indexes of earlier attempts; None if there are none.

    Attributes:
        column: Ending of the pictures that count; None for all pictures.
        extra: Columns of the texts.
        versions: Version of each archive.
        left_out: Number of members left out for each reason of `handler.photo_folders`.
        unread_texts: Number of texts that are null since they cannot be read.

    Raises:
        ListError: An archive is damaged, or has no such columns.
        StorageError: An archive cannot be read.
    """

    def __init__(
        self,
        location: str,
        files: Sequence[str],
        stores: Stores,
        *,
        column: str | None,
        keep: Sequence[str] | None,
        indexes: Indexes | None = None,
    ) -> None:
        self.column = column
        self._files = files
        self._lines = tempfile.TemporaryFile()  # noqa: SIM115 - `close` does
        self.versions: list[str] = []
        self.left_out = Counter[str]()
        self.unread_texts = 0
        texts, pictures = dict[str, None](), dict[str, None]()
        for index in self._indexed(stores, keep, indexes):
            with index.lines as lines:
                lines.seek(0)
                shutil.copyfileobj(lines, self._lines)
            self.versions.append(index.version)
            texts.update(index.columns)
            pictures.update(index.endings)
            self.left_out.update(index.left_out)
            self.unread_texts += index.unread_texts
        self._lines.flush()
        if not pictures:
            what = f" whose names end in .{column}" if column else ""
            raise ListError(f"there are no pictures{what} in {location}")
        known = [*texts, *(pictures if keep else ())]
        kept = kept_columns(location, known, "", keep)
        self.extra = pa.schema(
            [pa.field(name, pa.string() if name in texts else pa.binary()) for name in kept]
        )

    def close(self) -> None:
        """Remove the index."""
        self._lines.close()

    def entries(self) -> Iterator[Entry]:
        """One for each picture."""
        names = self.extra.names
        with ListSnapshot("of an index", "", self._lines).text() as lines:
            for line in lines:
                number, name, ending, offset, size, why, texts = json.loads(line)
                file = self._files[number]
                inside: Inside = InTar(file, self.versions[number], ending, offset, size)
                if why:
                    inside = Unusable(*why)
                yield Entry(f"{file}#{name}", tuple([texts.get(name) for name in names]), inside)

    def _indexed(
        self, stores: Stores, keep: Sequence[str] | None, indexes: Indexes | None
    ) -> Iterator[TarIndex]:
        """The archives' indexes in their order; at most as many are held as are read at a time."""
        coming = deque[Future[TarIndex]]()
        pool = ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="vea-index")
        try:
            for number, file in enumerate(self._files):
                read = partial(
                    index_tar, number=number, column=self.column, keep=keep, indexes=indexes
                )
                coming.append(pool.submit(read, file, stores))
                if len(coming) >= _AT_A_TIME:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
