"""A folder in place of a list: the images under it are listed once, and the listing is kept.

A folder changes while a job runs and between its starts, and then positions would not mean the
same images any more. So the first start writes what it finds into the output folder, and every
later one reads that. Images are listed with their whole location, in the order of their names'
bytes, as S3 does it; the same images give the same bytes.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import zlib
from collections.abc import Iterator

from handler.values.limits import SUFFIXES
from jobs.lists.columns import ListError
from jobs.storage.folders import Folder, ObjectMissing
from jobs.storage.s3 import S3
from jobs.values.layout import IDENTITY, RUN
from jobs.values.locations import S3Location, is_on_s3

LISTING = f"{RUN}list.txt.gz"

_ENDINGS = tuple(sorted(SUFFIXES))
# What a line of text cannot hold: ends of lines, and bytes of a name that are not UTF-8.
_UNSPEAKABLE = re.compile("[\r\n\ud800-\udfff]")


def snapshot_prefix(location: str, folder: Folder, s3: S3) -> str:
    """List the images under ``location``, unless an earlier start has done so.

    Images are told by the ends of their names, `handler.values.limits.SUFFIXES`. A name that a line
    of text cannot hold is listed with ``\ufffd`` in the place of what it cannot, and will come out
    as a missing image.

    Args:
        location: a local folder or ``s3://bucket/prefix/``; those in it are listed too.
        folder: of the output, where the listing is kept.
        s3: used if ``location`` lies there.

    Returns:
        Where the listing is, for `jobs.lists.image_list.open_list`.

    Raises:
        ListError: there are no images, or the output folder belongs to other ones.
        StorageError: S3 does not list them.
    """
    where = location if is_on_s3(location) else os.path.abspath(location)
    title = _line(f"# images under {where}")
    try:
        there = folder.read(LISTING)
    except ObjectMissing:
        if IDENTITY in folder.list(RUN):
            raise _occupied(folder, where) from None
        there = _pack(title, where, s3)
        # Of several starts at the same time one writes the listing, and all go by that one.
        if not folder.create(LISTING, there):
            there = folder.read(LISTING)
    if _first_line(there) != title:
        raise _occupied(folder, where)
    return f"{folder.location}/{LISTING}"


def _pack(title: bytes, where: str, s3: S3) -> bytes:
    packed, count = io.BytesIO(), 0
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as file:
        file.write(title)
        for image in _on_s3(where, s3) if is_on_s3(where) else _below(where):
            if image.lower().endswith(_ENDINGS):
                file.write(_line(image))
                count += 1
    if not count:
        raise ListError(
            f"there are no images under {where}: expected names that end in {', '.join(_ENDINGS)}"
        )
    return packed.getvalue()


def _on_s3(where: str, s3: S3) -> Iterator[str]:
    try:
        place = S3Location.parse(where)
    except ValueError as error:
        raise ListError(str(error)) from None
    return (str(S3Location(place.bucket, key)) for key in s3.walk(place))


def _below(folder: str) -> Iterator[str]:
    """The files under a folder; links to folders are not followed, since they may lead back."""
    try:
        with os.scandir(folder) as entries:
            found = [(e.name, e.is_dir(follow_symlinks=False), e.is_file()) for e in entries]
    except OSError as error:
        # A folder that is passed over in silence would be images lost in silence.
        raise ListError(f"the folder {folder} cannot be listed: {error.strerror}") from None
    # With its slash a folder takes the place among the files that its keys would have on S3.
    for name, is_folder, is_file in sorted(
        found, key=lambda item: os.fsencode(f"{item[0]}/" if item[1] else item[0])
    ):
        if is_folder:
            yield from _below(os.path.join(folder, name))
        elif is_file:
            yield os.path.join(folder, name)


def _line(text: str) -> bytes:
    return _UNSPEAKABLE.sub("\ufffd", text).encode() + b"\n"


def _first_line(packed: bytes) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
            return file.readline()
    except (OSError, EOFError, zlib.error):
        return b""


def _occupied(folder: Folder, where: str) -> ListError:
    return ListError(
        f"{folder.location} does not hold a run of the images under {where}, but another one: "
        "choose another --out"
    )
