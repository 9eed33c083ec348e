"""A folder in place of a list: the images under it are listed once, and the listing is kept.

A folder can change while a job runs and between its attempts; positions would then no longer mean
the same images. So the first attempt writes the listing into the output folder, and every later one
reads it. Images are listed with their whole location, in the order of the bytes of their names, as
S3 lists them; the same images give the same bytes. `handler.photo_folders` decides which files are
left out; a comment at the end of the listing names their number.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import zlib
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from handler.photo_folders import describe, photos_below, reason_to_leave_out
from jobs.lists.columns import ListError
from jobs.storage.folders import Folder, ObjectMissing
from jobs.storage.stores import Stores
from jobs.values.layout import IDENTITY, RUN
from jobs.values.locations import ObjectLocation, is_in_store

LISTING = f"{RUN}list.txt.gz"

_LEFT_OUT = b"# left out: "
# Characters that a line of text cannot hold: line ends, and bytes that are not UTF-8.
_UNSPEAKABLE = re.compile("[\r\n\ud800-\udfff]")


@dataclass(frozen=True)
class Snapshot:
    """The images below a folder or prefix, as they were when the run began.

    Attributes:
        location: Location of the listing, for `jobs.lists.image_list.open_list`.
        left_out: Number of files left out for each reason of `handler.photo_folders`.
    """

    location: str
    left_out: dict[str, int]


def snapshot_prefix(location: str, folder: Folder, stores: Stores) -> Snapshot:
    """List the images under ``location``, unless an earlier attempt has done so.

    Keys of S3 are known by their names alone, local files also by their first bytes. A name that a
    line of text cannot hold is listed with ``\ufffd`` in the place of what it cannot, and will come
    out as a missing image.

    Args:
        location: Local folder, or ``s3://bucket/prefix/``; folders in it are searched too.
        folder: Output folder, where the listing is kept.
        stores: Clients of the object stores.

    Raises:
        ListError: There are no images, or the output folder belongs to other ones.
        StorageError: S3 does not list them.
    """
    where = location if is_in_store(location) else os.path.abspath(location)
    title = _line(f"# images under {where}")
    try:
        there = folder.read(LISTING)
    except ObjectMissing:
        if IDENTITY in folder.list(RUN):
            raise _occupied(folder, where) from None
        there = _pack(title, where, stores)
        # Of several concurrent attempts, one writes the listing, and all read that one.
        if not folder.create(LISTING, there):
            there = folder.read(LISTING)
    first, last = _ends(there)
    if first != title:
        raise _occupied(folder, where)
    left_out = json.loads(last.removeprefix(_LEFT_OUT)) if last.startswith(_LEFT_OUT) else {}
    return Snapshot(f"{folder.location}/{LISTING}", left_out)


def _pack(title: bytes, where: str, stores: Stores) -> bytes:
    packed, count, left_out = io.BytesIO(), 0, Counter[str]()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as file:
        file.write(title)
        for image in (_in_store if is_in_store(where) else _local)(where, stores, left_out):
            file.write(_line(image))
            count += 1
        if left_out:
            file.write(_line(_LEFT_OUT.decode() + json.dumps(left_out, sort_keys=True)))
    if not count:
        what = f": {describe(left_out)}" if left_out else ""
        raise ListError(f"there are no images under {where}{what}")
    return packed.getvalue()


def _in_store(where: str, stores: Stores, left_out: Counter[str]) -> Iterator[str]:
    try:
        place = ObjectLocation.parse(where)
    except ValueError as error:
        raise ListError(str(error)) from None
    for key in stores.walk(place):
        if key.endswith("/"):
            continue  # the marker that some programs make for a folder
        if reason := reason_to_leave_out(key.removeprefix(place.key)):
            left_out[reason] += 1
        else:
            yield str(replace(place, key=key))


def _local(where: str, stores: Stores, left_out: Counter[str]) -> Iterator[str]:
    try:
        yield from photos_below(where, left_out)
    except OSError as error:
        # Skipping a folder silently would lose its images silently.
        raise ListError(f"the folder {error.filename} cannot be listed: {error.strerror}") from None


def _line(text: str) -> bytes:
    return _UNSPEAKABLE.sub("\ufffd", text).encode() + b"\n"


def _ends(packed: bytes) -> tuple[bytes, bytes]:
    """First and last line of a listing, as far as it can be read; empty where it cannot."""
    first, rest = b"", deque[bytes](maxlen=1)
    with suppress(OSError, EOFError, zlib.error), gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
        first = file.readline()
        rest.extend(file)
    return first, rest[0] if rest else b""


def _occupied(folder: Folder, where: str) -> ListError:
    return ListError(
        f"{folder.location} does not hold a run of the images under {where}, but another one: "
        "choose another --out"
    )
