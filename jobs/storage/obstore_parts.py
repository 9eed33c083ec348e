"""A part of an object, of one version of it, through obstore."""

from __future__ import annotations

from typing import Any

import obstore
from obstore.exceptions import BaseError, PreconditionError

from jobs.storage.errors import StorageError
from jobs.storage.obstore_errors import answer_in
from jobs.storage.opened import ObjectChanged
from jobs.storage.retry import TransientError
from jobs.storage.s3 import bare_etag

_NO_SUCH_PART = 416


def read_part(
    store: Any, key: str, position: int, size: int, etag: str | None
) -> tuple[bytes, int, str]:
    """Up to ``size`` bytes from a position, the size of the whole object, and its ETag.

    Args:
        store: Connection of obstore.
        key: Key of the object.
        position: Position of the first byte, from 0.
        size: Number of bytes, at least 1; fewer come at the end of the object.
        etag: ETag that the object must have; None for any.

    Raises:
        ObjectChanged: The object has another ETag.
        StorageError: The object has no ETag.
        TransientError: Fewer bytes arrived than the object has.
        BaseError: The request failed otherwise, as obstore says it.
    """
    options: Any = {"range": (position, position + size)}
    if etag:
        options["if_match"] = f'"{etag}"'
    try:
        answer = obstore.get(store, key, options=options)
        data = bytes(answer.bytes())
    except PreconditionError:
        raise ObjectChanged from None
    except BaseError as error:
        said = answer_in(error)
        if said and said[0] == _NO_SUCH_PART and position == 0:
            return b"", 0, ""  # an empty object
        raise
    found, whole = bare_etag(answer.meta["e_tag"]), int(answer.meta["size"])
    if found is None:
        raise StorageError(f"'{key}' has no ETag, which tells its versions apart")
    if etag not in (None, found):  # by a server that passes over the condition
        raise ObjectChanged
    if len(data) != min(size, whole - position):
        raise TransientError(f"{len(data)} bytes came where {size} were requested")
    return data, whole, found
