"""The pictures of one tar archive, as WebDataset lays them out, with the texts beside them.

Members whose names are equal up to the first dot of the last part, ``000012.jpg``, ``000012.json``
and ``000012.txt``, are one sample, and lie one after the other. Each picture is one row; the texts
of its sample are its columns, named by their endings. An archive is read once, and what was found
is kept as lines of JSON in a file without a name.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import IO, Any, Protocol

from handler.photo_folders import HIDDEN, NOT_AN_IMAGE, is_named_like_a_photo, reason_to_leave_out
from jobs.lists.columns import ListError
from jobs.lists.tar_members import Member, members
from jobs.storage.errors import ObjectUnavailable
from jobs.storage.pinned import open_pinned
from jobs.storage.stores import Stores
from jobs.storage.unpacking import Unpacked
from jobs.values.inside import Unusable
from jobs.values.layout import INDEX

_REQUEST = 4 * 1024 * 1024  # bytes
_TEXTS = (".json", ".txt", ".cls")
_MAX_TEXT = 1024 * 1024  # bytes
_MAX_COLUMNS = 100
# Photos with dots in their names, such as IMG.0001.jpg, would be one sample without end.
_MAX_PICTURES = 1_000
# What a line of text cannot hold: control characters, and bytes that are not UTF-8.
_UNSPEAKABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_LEADS_OUT = Unusable("bad-location", "the name of this member leads out of the archive")
_TWICE = Unusable("duplicate", "an earlier picture of this archive has the same name")


@dataclass
class TarIndex:
    """What an archive holds.

    Attributes:
        version: Version of the archive.
        columns: Endings of the texts, in the order of their first appearance.
        endings: Endings of the pictures.
        left_out: Number of members left out for each reason of `handler.photo_folders`.
        unread_texts: Number of texts that are not UTF-8, or too long, and so are null.
        lines: One line of JSON for each picture, compressed: number of the archive, name, ending,
            offset, size, kind and reason of what makes it unusable, and texts.
    """

    version: str
    lines: IO[bytes]
    columns: dict[str, None] = field(default_factory=dict)
    endings: dict[str, None] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    unread_texts: int = 0


class Indexes(Protocol):
    """Indexes that earlier attempts have kept, such as `jobs.lists.kept_indexes.KeptIndexes`."""

    def load(self, name: str) -> TarIndex | None:
        """The index of a name; None if there is none."""

    def store(self, name: str, index: TarIndex) -> None:
        """Keep an index."""


def index_tar(
    location: str,
    stores: Stores,
    *,
    number: int,
    column: str | None,
    keep: Collection[str] | None,
    indexes: Indexes | None,
) -> TarIndex:
    """Read an archive through.

    Args:
        location: Location of the archive.
        stores: Clients of the object stores.
        number: Number of the archive, which begins each line.
        column: Ending of the pictures that count; None for all pictures.
        keep: Endings of the texts that are wanted; None for all.
        indexes: Indexes of earlier attempts.

    Raises:
        ListError: The archive is damaged or missing.
        StorageError: The archive cannot be read.
    """
    try:
        with open_pinned(location, stores, block=_REQUEST) as file:
            name = _name_of(location, file.version, number=number, column=column, keep=keep)
            if indexes and (found := indexes.load(name)):
                return found
            lines_of_json = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
            index = TarIndex(file.version, lines_of_json)
            content = Unpacked(file)
            with gzip.GzipFile(fileobj=index.lines, mode="wb", compresslevel=1, mtime=0) as lines:
                for line in _lines(content, index, column, keep):
                    lines.write(json.dumps([number, *line]).encode() + b"\n")
    except ObjectUnavailable as refused:
        raise ListError(f"the archive {location} cannot be read: {refused.reason}") from None
    except OSError as error:
        raise ListError(
            f"the index of {location} cannot be kept in {tempfile.gettempdir()}: "
            f"{error.strerror or error}; TMPDIR names another folder"
        ) from None
    if indexes:
        indexes.store(name, index)
    return index


def _name_of(
    location: str, version: str, *, number: int, column: str | None, keep: Collection[str] | None
) -> str:
    """Name of an index, which follows from all that decides what is in it.

    Args:
        location: Location of the archive.
        version: Version of the archive.
        number: Number of the archive in its list.
        column: Ending of the pictures that count.
        keep: Endings of the texts that are wanted.
    """
    key = json.dumps([location, version, number, column, None if keep is None else sorted(keep)])
    return f"{INDEX}{hashlib.sha256(key.encode()).hexdigest()[:32]}.gz"


@dataclass
class _Sample:
    """Members of one key that lie one after the other."""

    key: str
    pictures: list[tuple[str, str, Member, Unusable | None]] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)

    def lines(self) -> Iterator[list[Any]]:
        for name, ending, member, problem in self.pictures:
            why = [problem.kind, problem.reason] if problem else None
            yield [name, ending, member.offset, member.size, why, self.texts]


def _lines(
    content: Unpacked, index: TarIndex, column: str | None, keep: Collection[str] | None
) -> Iterator[list[Any]]:
    sample, seen = _Sample(""), set[bytes]()
    for member in members(content):
        name = _UNSPEAKABLE.sub("\ufffd", member.name)
        while name.startswith("./"):
            name = name[2:]
        folder, slash, base = name.rpartition("/")
        first, _, ending = base.partition(".")
        if _is_hidden(name):
            index.left_out[HIDDEN] += 1
            continue
        key = f"{folder}{slash}{first}"
        if key != sample.key or len(sample.pictures) >= _MAX_PICTURES:
            yield from _finished(sample, index)
            sample = _Sample(key)
        if base.lower().endswith(_TEXTS):
            if keep is None or ending in keep:
                _add_text(sample, ending, content, member, index)
        elif is_named_like_a_photo(base) and (column is None or column == ending):
            index.endings.setdefault(ending)
            problem = member.problem
            digest = hashlib.blake2b(member.name.encode(errors="surrogateescape"), digest_size=8)
            if ".." in name.split("/"):
                problem = problem or _LEADS_OUT
            elif digest.digest() in seen:
                problem = problem or _TWICE
            seen.add(digest.digest())
            sample.pictures.append((name, ending, member, problem))
        else:
            index.left_out[NOT_AN_IMAGE] += 1
    yield from _finished(sample, index)


def _finished(sample: _Sample, index: TarIndex) -> Iterator[list[Any]]:
    if sample.texts and not sample.pictures:
        index.left_out[NOT_AN_IMAGE] += len(sample.texts)
        return
    for ending in sample.texts:
        index.columns.setdefault(ending)
    if len(index.columns) > _MAX_COLUMNS:
        raise ObjectUnavailable(
            "unreadable",
            f"it has texts with more than {_MAX_COLUMNS} different endings: name those to take "
            "over with --keep, such as --keep txt",
        )
    yield from sample.lines()


def _add_text(
    sample: _Sample, ending: str, content: Unpacked, member: Member, index: TarIndex
) -> None:
    if ending in sample.texts or member.problem or member.size > _MAX_TEXT:
        index.unread_texts += 1
        return
    data = content.read(member.size)
    try:
        sample.texts[ending] = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        index.unread_texts += 1


def _is_hidden(name: str) -> bool:
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    return not parts or reason_to_leave_out("/".join(parts)) == HIDDEN
