"""All keys below a prefix, page by page, through obstore.

A page that fails is requested again by obstore itself, which alone has the server's token for it.
If a page breaks off while it arrives, the listing begins again and passes over what it has given;
nothing is assumed about the order of the keys but that it stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import obstore

from jobs.storage.errors import StorageError

_PAGE = 1_000


class Listing:
    """One listing, which can be continued after a failure.

    Args:
        store: Connection of obstore that repeats its requests.
        prefix: Beginning of the keys.
    """

    def __init__(self, store: Any, prefix: str) -> None:
        self._store = store
        self._prefix = prefix
        self._pages: Iterator[Sequence[Any]] | None = None
        self._last: str | None = None
        self._passing_over = False

    def page(self) -> list[str] | None:
        """The next keys; None after the last ones.

        Raises:
            StorageError: Objects were deleted while they were listed.
        """
        if self._pages is None:
            # obstore takes a folder for a prefix, and nothing less.
            folder = self._prefix.rpartition("/")[0]
            self._pages = iter(obstore.list(self._store, folder or None, chunk_size=_PAGE))
            self._passing_over = self._last is not None
        try:
            items = next(self._pages, None)
        except Exception:
            self._pages = None
            raise
        if items is None:
            if self._passing_over:
                raise StorageError(f"{self._last} was deleted while its folder was listed")
            return None
        keys = [item["path"] for item in items]
        if self._passing_over:
            if self._last not in keys:
                return []
            keys = keys[keys.index(self._last) + 1 :]
            self._passing_over = False
        self._last = keys[-1] if keys else self._last
        return [key for key in keys if key.startswith(self._prefix)]
