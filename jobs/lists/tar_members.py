"""The members of a tar archive, one after the other, in constant memory.

The standard library's `tarfile` parses each header. It does not walk from one to the next here: it
takes a damaged header for the end of the archive, reads headers of any size into memory, and keeps
every member that it has seen. Nothing is ever written to disk, so a name can lead nowhere.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

from jobs.storage.errors import ObjectUnavailable
from jobs.storage.unpacking import Unpacked
from jobs.values.inside import Unusable

_BLOCK = tarfile.BLOCKSIZE
_MAX_HEADER = 1024 * 1024  # bytes of names and attributes of one member
_DRAIN = 1024 * 1024
_ENCODING, _ERRORS = "utf-8", "surrogateescape"
_LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_PAX = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
# Where a header, and a block that continues it, says that another block continues it.
_SPARSE_MORE, _SPARSE_MORE_NEXT = 482, 504


@dataclass(frozen=True)
class Member:
    """A member that is not a folder.

    Attributes:
        name: Name as the archive has it; bytes that are not UTF-8 are surrogates.
        offset: Position of its first byte in the unpacked archive.
        size: Size in bytes.
        problem: Reason why it is no ordinary file, if it is none.
    """

    name: str
    offset: int
    size: int
    problem: Unusable | None = None


def members(content: Unpacked) -> Iterator[Member]:
    """All members; each can be read from ``content`` before the next one is asked for.

    Args:
        content: Unpacked archive, at its beginning.

    Raises:
        ObjectUnavailable: The archive is damaged, cut off, or cannot be read.
        StorageError: Nothing can be read.
    """
    next_header, common, own = 0, dict[str, str](), dict[str, str]()
    while True:
        content.seek(next_header)
        block = content.read(_BLOCK)
        if len(block) < _BLOCK:
            raise _damaged(f"it ends at byte {next_header}, before the mark of its end: cut off?")
        if not any(block):
            _check_end(content)
            return
        try:
            info = tarfile.TarInfo.frombuf(block, _ENCODING, _ERRORS)
        except tarfile.HeaderError as error:
            raise _damaged(f"at byte {next_header}: {error}") from None
        if info.type in (*_LONG, *_PAX):
            data = _header_data(content, info)
            if info.type == tarfile.GNUTYPE_LONGNAME:
                own["path"] = data.split(b"\0", 1)[0].decode(_ENCODING, _ERRORS)
            elif info.type in _PAX:
                found = _pax(data, next_header)
                (common if info.type == tarfile.XGLTYPE else own).update(found)
            next_header = content.position + -info.size % _BLOCK
            continue
        attributes, own = common | own, {}
        if info.type == tarfile.GNUTYPE_SPARSE:
            more = block[_SPARSE_MORE]
            while more:
                block = content.read(_BLOCK)
                more = len(block) == _BLOCK and block[_SPARSE_MORE_NEXT]
        size = _size(info, attributes, next_header)
        offset = content.position
        next_header = offset + size + -size % _BLOCK
        if not info.isdir():
            name = attributes.get("GNU.sparse.name") or attributes.get("path") or info.name
            yield Member(name, offset, size, _problem(info, attributes))


def _header_data(content: Unpacked, info: tarfile.TarInfo) -> bytes:
    if not 0 <= info.size <= _MAX_HEADER:
        raise _damaged(f"a name or its attributes have {info.size} bytes")
    data = content.read(info.size)
    if len(data) < info.size:
        raise _damaged("it ends within the name of a member: cut off?")
    return data


def _pax(data: bytes, position: int) -> dict[str, str]:
    """Attributes in the form of POSIX: ``28 path=0001.jpg`` and a line end, 28 bytes in all."""
    found, start = dict[str, str](), 0
    try:
        while start < len(data) and data[start]:
            space = data.index(b" ", start)
            end = start + int(data[start:space])
            name, equals, value = data[space + 1 : end - 1].partition(b"=")
            if not start < space < end <= len(data) or not equals or data[end - 1] != ord("\n"):
                raise ValueError
            found[name.decode(_ENCODING, _ERRORS)] = value.decode(_ENCODING, _ERRORS)
            start = end
    except ValueError:
        raise _damaged(f"at byte {position}: attributes that cannot be read") from None
    return found


def _size(info: tarfile.TarInfo, attributes: dict[str, str], position: int) -> int:
    """Size of the data that follows a header; links and devices have none, whatever they say."""
    if info.isdir() or info.issym() or info.islnk() or info.isdev():
        return 0
    try:
        size = int(attributes.get("size", info.size))
    except ValueError:
        size = -1
    if size < 0:
        raise _damaged(f"at byte {position}: a member of {size} bytes")
    return size


def _problem(info: tarfile.TarInfo, attributes: dict[str, str]) -> Unusable | None:
    if info.issym() or info.islnk():
        return Unusable("bad-location", "this member is a link, and holds no picture")
    if info.type == tarfile.GNUTYPE_SPARSE or any(n.startswith("GNU.sparse.") for n in attributes):
        return Unusable("unreadable", "this member is a sparse file, which is not read")
    if not info.isreg():
        return Unusable("bad-location", "this member is not a regular file")
    return None


def _check_end(content: Unpacked) -> None:
    """What follows the end must be nothing: a second archive would be lost in silence."""
    end = content.position - _BLOCK
    while block := content.read(_DRAIN):
        if any(block):
            raise _damaged(
                f"data follows its end at byte {end}: archives that were joined must be given one "
                "by one"
            )


def _damaged(what: str) -> ObjectUnavailable:
    return ObjectUnavailable("unreadable", f"it is damaged, or no tar: {what}")
