"""Where a picture lies that is inside a file with others: a tar archive or a parquet table.

A list finds these places once; workers read the pictures there. The file is pinned to the version
that was listed, so that a place never means another picture.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_INSIDE = re.compile(r"\.(tar|tgz|tzst|tar\.gz|tar\.zstd?|parquet)#", re.IGNORECASE)


@dataclass(frozen=True)
class InTar:
    """A picture that is a member of a tar archive, which may be compressed.

    Attributes:
        file: Location of the archive.
        version: Version of the archive, as `jobs.storage.pinned.PinnedFile` knows it.
        field: Ending of the member's name, such as ``jpg``.
        offset: Position of its first byte in the archive, once that is unpacked.
        size: Size in bytes.
    """

    file: str
    version: str
    field: str
    offset: int
    size: int


@dataclass(frozen=True)
class InTable:
    """A picture that is a value of a parquet file.

    Attributes:
        file: Location of the parquet file.
        version: Version of the file, as `jobs.storage.pinned.PinnedFile` knows it.
        field: Name of the column.
        row: Row in the file, from 0.
    """

    file: str
    version: str
    field: str
    row: int


@dataclass(frozen=True)
class Unusable:
    """Why a member is not read, which is known from the list: a kind of failure, and a line."""

    kind: str
    reason: str


Inside = InTar | InTable | Unusable


def is_inside(location: str) -> bool:
    """Whether a location, such as ``s3://photos/0001.tar#000012.jpg``, looks like one in a file."""
    return bool(_INSIDE.search(location))
