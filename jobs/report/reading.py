"""Reads a finished run for a report.

Counts come from the run's manifest; what it does not contain is read from the run's files, one file
after the other and only the columns that are needed. Missing or additional rows are an error, so
that no report describes a damaged folder as a finished run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from handler.values.emotions import WHEELS
from jobs.output.parquet import OK, ROW_GROUP
from jobs.report.finished_run import Example, FinishedRun, ReportError, date_in
from jobs.storage.folders import Folder, ObjectMissing, open_folder
from jobs.storage.stores import Stores
from jobs.values.layout import MANIFEST, SUCCESS
from jobs.values.locations import is_in_store

_KEYS = {"run_id", "rows", "status", "reasons", "emotions", "files", "model", "list"}


def find_run(location: str, stores: Stores) -> FinishedRun | None:
    """As `read_run` without examples; None if there is no finished run."""
    manifest = _manifest(location, stores)
    return None if manifest is None else _read(location, manifest, stores, examples=0)


def read_run(location: str, stores: Stores, *, examples: int = 0) -> FinishedRun:
    """Read a finished run.

    Args:
        location: Folder of the run, a path or ``s3://bucket/prefix``.
        stores: Clients of the object stores.
        examples: Number of the most confident images, and of the least confident ones, to keep.

    Raises:
        ReportError: There is no finished run, or its files are not what its manifest says.
        StorageError: S3 does not return it.
    """
    manifest = _manifest(location, stores)
    if manifest is None:
        raise ReportError(
            f"there is no finished run in {location}: expected {SUCCESS} and {MANIFEST} there, as "
            "`vea score` leaves them"
        )
    return _read(location, manifest, stores, examples=examples)


def _manifest(location: str, stores: Stores) -> dict[str, Any] | None:
    # Opening a local folder would create it, which a reader must not do.
    if not is_in_store(location) and not Path(location).is_dir():
        return None
    folder = open_folder(location, stores)
    if SUCCESS not in folder.list("_"):
        return None
    try:
        manifest = json.loads(folder.read(MANIFEST))
        if missing := _KEYS - manifest.keys():
            raise ValueError(f"it does not say {', '.join(sorted(missing))}")
    except (ValueError, AttributeError, ObjectMissing) as error:
        raise ReportError(f"{MANIFEST} in {location} is damaged: {error}") from None
    return dict(manifest)


def _read(location: str, manifest: dict[str, Any], stores: Stores, *, examples: int) -> FinishedRun:
    settings = manifest.get("settings", {})
    folder, found = open_folder(location, stores), _Found(examples, settings.get("columns"))
    for file in manifest["files"]:
        before = found.rows
        for batch in _batches(folder, file["name"], found):
            found.add(batch)
        if found.rows - before != file["rows"]:
            raise ReportError(
                f"{file['name']} in {location} has {found.rows - before} rows where {MANIFEST} "
                f"says {file['rows']}: score this run again, into an empty folder"
            )
    return FinishedRun(
        location=location,
        date=date_in(location),
        manifest=manifest,
        labels=tuple(found.labels),
        positive=found.positive,
        with_face=found.with_face if found.has_faces else None,
        confidence=found.confidence / found.ok if found.ok else None,
        most_confident=tuple(found.most_confident),
        least_confident=tuple(found.least_confident),
    )


@dataclass
class _Found:
    """What was read so far."""

    examples: int
    chosen: list[str] | None = None
    labels: list[str] = field(default_factory=list)
    rows: int = 0
    ok: int = 0
    positive: int = 0
    with_face: int = 0
    has_faces: bool = True
    confidence: float = 0.0
    most_confident: list[Example] = field(default_factory=list)
    least_confident: list[Example] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        needed = ["status", "emotion", "polarity", *(f"p_{n}" for n in self.labels)]
        if self.has_faces:
            needed.append("faces")
        return [*needed, "position", "image", "etag", "objects"] if self.examples else needed

    def add(self, batch: pa.RecordBatch) -> None:
        """Count further rows."""
        self.rows += batch.num_rows
        scored = batch.filter(pc.equal(batch["status"], OK))
        if not scored.num_rows:
            return
        self.ok += scored.num_rows
        self.positive += pc.sum(pc.equal(scored["polarity"], "positive")).as_py()
        if self.has_faces:
            self.with_face += pc.sum(pc.greater(scored["faces"], 0)).as_py()
        columns = [scored[f"p_{label}"].to_numpy(zero_copy_only=False) for label in self.labels]
        confidence = np.max(columns, axis=0)
        self.confidence += float(confidence.sum(dtype=np.float64))
        if self.examples:
            surest = np.argsort(-confidence, kind="stable")
            doubtful = np.argsort(confidence, kind="stable")
            self.most_confident = self._choose(
                self.most_confident, scored, surest, confidence, sign=-1
            )
            self.least_confident = self._choose(
                self.least_confident, scored, doubtful, confidence, sign=1
            )

    def _choose(
        self,
        chosen: Sequence[Example],
        batch: pa.RecordBatch,
        order: np.ndarray[Any, np.dtype[np.int64]],
        confidence: np.ndarray[Any, np.dtype[np.float32]],
        *,
        sign: int,
    ) -> list[Example]:
        """The first examples of those chosen and of a batch, without duplicate content."""
        kept = {item.content: item for item in chosen}
        for index in order.tolist():
            value, last = float(confidence[index]), None
            if len(kept) == self.examples:
                last = max(kept.values(), key=lambda item: (sign * item.confidence, item.position))
                if sign * value >= sign * last.confidence:
                    break
            example = _example(batch, index, value)
            if example.content in kept:
                continue
            if last:
                del kept[last.content]
            kept[example.content] = example
        return sorted(kept.values(), key=lambda item: (sign * item.confidence, item.position))


def _example(batch: pa.RecordBatch, index: int, confidence: float) -> Example:
    row = {
        name: batch[name][index].as_py()
        for name in ("position", "image", "etag", "emotion", "objects")
    }
    row["faces"] = batch["faces"][index].as_py() if "faces" in batch.schema.names else None
    return Example(**row, confidence=confidence)


def _batches(folder: Folder, name: str, found: _Found) -> Iterator[pa.RecordBatch]:
    """A file's rows, of the columns that are needed."""
    try:
        with pq.ParquetFile(pa.BufferReader(folder.read(name))) as file:
            found.has_faces = "faces" in file.schema_arrow.names
            if found.chosen is None:
                found.labels = _labels(file.schema_arrow)
            else:
                found.labels = _labels_of_chosen(found.chosen)
                _require(found, file.schema_arrow, folder.location)
            yield from file.iter_batches(ROW_GROUP, columns=found.columns)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        line = str(error).strip().splitlines()[0]
        raise ReportError(f"{name} in {folder.location} is damaged: {line}") from None


def _require(found: _Found, columns: pa.Schema, where: str) -> None:
    missing = [name for name in found.columns if name not in columns.names]
    if missing or not found.labels:
        what = ", ".join(missing) or "the probabilities of all emotions"
        raise ReportError(
            f"a report needs columns that the run in {where} was told to leave out with --columns: "
            f"{what}"
        )


def _labels_of_chosen(columns: Sequence[str]) -> list[str]:
    """The emotions of the wheel whose probabilities are all among the columns, in any order."""
    for wheel in WHEELS:
        if all(f"p_{label}" in columns for label in wheel.labels):
            return list(wheel.labels)
    return []


def _labels(columns: pa.Schema) -> list[str]:
    """The emotions that files have probabilities of.

    Columns of the list may be called ``p_...`` too; the model's are those before ``polarity``.
    """
    names = columns.names[: columns.get_field_index("polarity")]
    labels = [name.removeprefix("p_") for name in names if name.startswith("p_")]
    # On the wheel of polarities the other probability is `p_positive`, which all files have.
    return ["positive", "negative"] if labels == ["negative"] else labels
