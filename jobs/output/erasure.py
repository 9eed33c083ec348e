"""Removes rows from finished runs, and whole runs, in steps that can be repeated.

    _run/erasing.json        who is at work since when; while it is there, the manifest may be older
                             than the files
    images-00000.parquet     each file that holds such rows is replaced in one step
    _manifest.json           written anew from the files; says how many rows were removed, not which

A removal that was killed is completed by the same command: it finds the rows that are left, and
writes the manifest from the files as they are. Nothing that is written says which rows they were.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.output import compaction
from jobs.output.compaction import Counts, DataFile, damaged
from jobs.output.erasure_journal import ErasureError, sole_work
from jobs.output.parquet import ROW_GROUP, read_part, writer_options
from jobs.output.selection import Selection
from jobs.storage.folders import Folder, LocalFolder, ObjectMissing
from jobs.values.layout import IDENTITY, JOURNAL, MANIFEST, PART, RUN, SUCCESS

_LISTING = f"{RUN}list.txt.gz"


@dataclass(frozen=True)
class Plan:
    """What a removal would change in one run.

    Attributes:
        rows: Number of rows of the run.
        selected: Number of rows to be removed.
        fits: Whether the run has the columns that decide.
        interrupted: Whether an earlier removal was interrupted.
    """

    rows: int
    selected: int
    fits: bool
    interrupted: bool


def plan(folder: Folder, selection: Selection) -> Plan:
    """Count the rows that a removal would take from a finished run.

    Args:
        folder: Folder of the run.
        selection: Rows to be removed.

    Raises:
        ErasureError: The manifest is damaged.
        PartError: A file is damaged.
        SelectionError: A value is not of its column's type.
    """
    rows = selected = 0
    fits = True
    for name in _files(_manifest(folder)):
        data = folder.read(name)
        schema = _schema(data, name, folder)
        if not selection.fits(schema):
            fits = False
            rows += _read(data, name, folder, columns=["status"]).num_rows
            continue
        table = _read(data, name, folder, columns=selection.columns)
        rows += table.num_rows
        selected += pc.sum(selection.mask(table)).as_py() or 0
    return Plan(rows, selected, fits, JOURNAL in folder.list(RUN))


def erase(folder: Folder, selection: Selection) -> int:
    """Remove rows from a finished run; returns how many it has lost since its manifest was written.

    Args:
        folder: Folder of the run.
        selection: Rows to be removed.

    Raises:
        ErasureError: Another process removes rows of this run, or the manifest is damaged.
        PartError: A file is damaged.
    """
    with sole_work(folder):
        manifest = _manifest(folder)
        # What an interrupted tidying left behind holds the same rows.
        folder.delete([name for name in folder.list(RUN) if name.startswith(PART)])
        counts, files = Counts(), []
        for name in _files(manifest):
            data = folder.read(name)
            table = _read(data, name, folder)
            if selection.fits(table.schema):
                mask = selection.mask(table)
                if pc.any(mask).as_py():
                    _shorten_listing(folder, set(table.filter(mask)["image"].to_pylist()))
                    table = table.filter(pc.invert(mask))
                    data = _encode(table)
                    folder.write(name, data)
            counts.add(table)
            digest = hashlib.sha256(data).hexdigest()
            files.append(DataFile(name, table.num_rows, len(data), digest))
        lost: int = manifest["rows"] - counts.rows
        if lost:
            folder.write(MANIFEST, _json(_shortened(manifest, files, counts, lost)))
    return lost


def delete_run(folder: Folder) -> None:
    """Delete everything that `vea score` wrote into a folder; after a kill, call it again.

    Args:
        folder: Folder of the run.

    Raises:
        ErasureError: Another process removes rows of this run.
    """
    with sole_work(folder):
        folder.delete([SUCCESS])  # from here on it is no finished run
        folder.delete([MANIFEST, *(n for n in folder.list() if n.startswith(compaction.PREFIX))])
        rest = [name for name in folder.list(RUN) if name != IDENTITY]
        folder.delete([name for name in rest if not name.startswith(JOURNAL)])
        folder.delete([IDENTITY])
    if isinstance(folder, LocalFolder):
        with suppress(OSError):  # it holds other files
            Path(folder.location, RUN).rmdir()
            Path(folder.location).rmdir()


def _manifest(folder: Folder) -> dict[str, Any]:
    try:
        manifest = dict(json.loads(folder.read(MANIFEST)))
        _files(manifest), int(manifest["rows"])
    except (ValueError, TypeError, KeyError):
        raise ErasureError(f"{MANIFEST} in {folder.location} is damaged") from None
    return manifest


def _files(manifest: dict[str, Any]) -> list[str]:
    return [file["name"] for file in manifest["files"]]


def _shortened(
    manifest: dict[str, Any], files: list[DataFile], counts: Counts, lost: int
) -> dict[str, Any]:
    before = manifest.get("removed", {})
    return manifest | {
        **counts.to_dict(),
        **({"copied": counts.copied} if "copied" in manifest else {}),
        "bytes": sum(file.bytes for file in files),
        "files": [file.to_dict() for file in files],
        "removed": {
            "rows": before.get("rows", 0) + lost,
            "times": before.get("times", 0) + 1,
            "last": datetime.now(UTC).date().isoformat(),
        },
    }


def _shorten_listing(folder: Folder, images: set[str]) -> None:
    """Remove images from the listing that a run of a folder keeps."""
    try:
        packed = folder.read(_LISTING)
    except ObjectMissing:
        return
    lines = gzip.decompress(packed).split(b"\n")
    gone = {image.encode() for image in images}
    kept = [line for line in lines if line not in gone]
    if len(kept) < len(lines):
        folder.write(_LISTING, gzip.compress(b"\n".join(kept), mtime=0))


def _schema(data: bytes, name: str, folder: Folder) -> pa.Schema:
    try:
        return pq.read_schema(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        raise damaged(name, folder, error) from None


def _read(data: bytes, name: str, folder: Folder, columns: list[str] | None = None) -> pa.Table:
    try:
        return read_part(data, columns=columns)
    except ValueError as error:
        raise damaged(name, folder, error) from None


def _encode(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    options = writer_options(table.schema)
    pq.write_table(table.combine_chunks(), buffer, row_group_size=ROW_GROUP, **options)
    return buffer.getvalue()


def _json(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, indent=2, sort_keys=True) + "\n").encode()
