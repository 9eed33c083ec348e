"""Answers of earlier runs, found by the location and ETag of a photo, or by its content.

An ETag identifies a photo's content only if it is that of an object on S3 that was written in one
piece; other photos are found by the digest of their bytes, where the earlier run has kept it. Rows
of photos that failed are not answers.
"""

from __future__ import annotations

import hashlib
import io
import threading
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.output.consulted import Consulted, ConsultedError, EarlierRun
from jobs.output.delta_answers import TableVersion
from jobs.output.earlier_files import ANSWERS, AnswersWriter, SortedKeys, made_once
from jobs.output.parquet import CONTENT_HASH, OK, ORIGIN, SCORED_BY, Row
from jobs.storage.errors import one_line
from jobs.storage.folders import Folder
from jobs.storage.key_sort import KEY_BYTES, KeySort, key_of
from jobs.storage.stores import Stores
from jobs.values.locations import is_object, resolve

_ROWS = 65_536
_TEXT = pa.string()
# Columns of a row that are not the model's answer.
_OTHERS = frozenset(
    {"position", "image", "status", "stage", "reason_kind", "reason", "etag", *ORIGIN}
    | {CONTENT_HASH, SCORED_BY}
)
_ONE_PIECE = "^[0-9a-f]{32}$"


@dataclass(frozen=True)
class EarlierAnswer:
    """What an earlier run says of a photo.

    Attributes:
        etag: ETag of the object that was scored.
        content: SHA-256 of its bytes, hexadecimal, if the run has kept it.
        row: Columns of the answer, and the run that it comes from.
    """

    etag: str | None
    content: str | None
    row: Row


class EarlierAnswers:
    """Finds answers; safe to share between threads.

    Args:
        folder: Folder with the files of `jobs.output.earlier_files`.
    """

    def __init__(self, folder: Path) -> None:
        self._reader = pa.ipc.open_file(pa.memory_map(str(folder / ANSWERS)))
        self._starts = np.load(folder / "starts.npy").tolist()
        self._locations = SortedKeys(folder, "locations")
        self._contents = SortedKeys(folder, "contents")
        self._lock = threading.Lock()

    @property
    def has_contents(self) -> bool:
        """Whether any answer can be found by content."""
        return len(self._contents) > 0

    def at(self, location: str) -> EarlierAnswer | None:
        """The latest answer for an object on S3; it holds if the object has the same ETag."""
        return self._row(self._locations.find(key_of(location)))

    def with_content(self, sha256: str) -> EarlierAnswer | None:
        """The latest answer for a photo with these bytes."""
        return self._row(self._contents.find(_content_key(sha256)))

    def _row(self, number: int | None) -> EarlierAnswer | None:
        if number is None:
            return None
        batch = bisect_right(self._starts, number) - 1
        with self._lock:
            found = self._reader.get_batch(batch)
        row = found.slice(number - self._starts[batch], 1).to_pylist()[0]
        etag, content = row.pop("etag"), row.pop(CONTENT_HASH)
        return EarlierAnswer(etag, content, {**row, "status": OK})


def open_earlier(
    consulted: Consulted, *, run_id: str, columns: pa.Schema, stores: Stores
) -> EarlierAnswers:
    """The answers of the runs that a run copies from, which are read once on each machine.

    Args:
        consulted: Runs to copy from.
        run_id: Identifier of the run that copies.
        columns: Columns of its rows, without those of the list.
        stores: Clients of the object stores.

    Raises:
        VeaError: A run is not as it was, is damaged, or there is no room for the answers.
    """
    return EarlierAnswers(
        made_once(run_id, lambda folder: _make(folder, consulted, columns, stores))
    )


def _make(folder: Path, consulted: Consulted, columns: pa.Schema, stores: Stores) -> None:
    answer = [item for item in columns if item.name not in _OTHERS]
    kept = pa.schema([*answer, *(pa.field(n, _TEXT) for n in ("etag", CONTENT_HASH, SCORED_BY))])
    need_hash = CONTENT_HASH in columns.names
    sources = list(_sources(consulted, pa.schema(answer), stores))
    expected = sum(source.rows for source in sources)
    starts = []
    with KeySort(expected) as locations, KeySort(expected) as contents:
        answers = AnswersWriter(folder, kept)
        for source in sources:
            for table in source.tables:
                rows = _answers(table, source.run_id, kept)
                places = [resolve(image, source.images) for image in table["image"].to_pylist()]
                by_etag = _by_etag(rows["etag"], places)
                by_content = _known(rows[CONTENT_HASH])
                usable = by_content if need_hash else by_etag | by_content
                by_etag, by_content = by_etag[usable], by_content[usable]
                rows = rows.filter(pa.array(usable))
                numbers = np.arange(answers.rows, answers.rows + rows.num_rows)
                places = list(compress(places, usable))
                locations.add(map(key_of, compress(places, by_etag)), numbers[by_etag])
                digests = compress(rows[CONTENT_HASH].to_pylist(), by_content)
                contents.add(map(_content_key, digests), numbers[by_content])
                if rows.num_rows:
                    starts.append(answers.rows)
                    answers.add(rows)
        answers.close()
        SortedKeys.write(folder, "locations", locations)
        SortedKeys.write(folder, "contents", contents)
    np.save(folder / "starts.npy", np.array(starts, np.int64))


@dataclass(frozen=True)
class _Source:
    """A run to copy from: its identifier, rows, folder of relative images, and good rows."""

    run_id: str
    rows: int
    images: str
    tables: Iterator[pa.Table]


def _sources(consulted: Consulted, answer: pa.Schema, stores: Stores) -> Iterator[_Source]:
    table: TableVersion | None = None
    for run in consulted.runs:
        if run.in_table:
            table = table or TableVersion(run.location, run.manifest_sha256, stores)
            rows = table.rows(run.run_id)
            yield _Source(run.run_id, rows, "", table.tables(run.run_id, answer))
            continue
        folder, manifest = run.manifest(stores)
        images = manifest["settings"].get("list_folder") or ""
        found = _tables(run, folder, manifest["files"])
        yield _Source(run.run_id, int(manifest["rows"]), images, found)


def _tables(
    run: EarlierRun, folder: Folder, files: Sequence[Mapping[str, Any]]
) -> Iterator[pa.Table]:
    """The rows of a run's files that have an answer."""
    for file in files:
        data = folder.read(file["name"])
        try:
            if hashlib.sha256(data).hexdigest() != file["sha256"]:
                raise ValueError("its content is not that of the manifest")
            with pq.ParquetFile(io.BytesIO(data)) as opened:
                for batch in opened.iter_batches(_ROWS, use_threads=False):
                    table = pa.Table.from_batches([batch])
                    yield table.filter(pc.equal(table["status"], OK))
        except (ValueError, pa.ArrowException, OSError) as error:
            raise ConsultedError(
                f"{file['name']} in {run.location} is damaged ({one_line(str(error))}): score "
                "that list again, or choose another --out without it"
            ) from None


def _answers(table: pa.Table, run_id: str, kept: pa.Schema) -> pa.Table:
    rows = [
        table[item.name].cast(item.type)
        if item.name in table.column_names
        else pa.nulls(table.num_rows, item.type)
        for item in kept
    ]
    rows[-1] = pc.fill_null(rows[-1], run_id)
    return pa.Table.from_arrays(rows, schema=kept)


def _by_etag(etags: pa.ChunkedArray, places: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which answers hold for an object with the same ETag at the same place."""
    in_one_piece = pc.fill_null(pc.match_substring_regex(etags, _ONE_PIECE), False)
    return np.array(in_one_piece) & np.fromiter(map(is_object, places), bool, len(places))


def _known(column: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    return np.array(pc.is_valid(column))


def _content_key(sha256: str) -> bytes:
    return bytes.fromhex(sha256)[:KEY_BYTES]
