"""The ledger of a run: ownership of the output folder, finished parts, completion.

    _run/identity.json        what run the folder belongs to; written first, and only if absent
    _run/part-00042.parquet   a chunk's rows; one that exists is done, since objects are whole
    _run/poison-00042.json    positions of a chunk whose images killed a process
    _run/failed.json          the run ended with too many failures, and may be replaced
    images-00000.parquet ...  all rows, in order; written when all parts are there
    _manifest.json            these files and what is in them
    _SUCCESS                  empty; written last, and then the parts are deleted

Every step can be repeated, and writes the same bytes each time. So a run that was killed at any
point is resumed where it was, and two attempts of the same run can work at the same time.

A folder belongs to one run: an attempt with another list, model or setting is refused with the
difference. This is simpler than several runs in one folder, and a reader of the folder never gets
rows of two models. pandas, Spark and Athena ignore names that start with '_', so reading the folder
gives each row once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any

from handler.values.errors import VeaError
from handler.values.prediction import ModelIdentity
from jobs.output import compaction, parquet
from jobs.output.partitions import path_columns, refuse_varying
from jobs.output.run_state import RunState
from jobs.storage.folders import Folder, ObjectMissing
from jobs.values.chunks import SETTINGS_IN_WORDS, Chunk, RunIdentity
from jobs.values.layout import (
    FAILED_RUN,
    IDENTITY,
    INDEX,
    MANIFEST,
    PART,
    POISON,
    RUN,
    SUCCESS,
    SUFFIX,
)
from jobs.values.tasks import PartReport

_OLD_IDENTITY = "_run.json"


class LedgerError(VeaError):
    """The output folder does not fit this run; the message is one line for people."""


class Ledger:
    """The state of one run in its output folder.

    Args:
        folder: Folder of the output.
        identity: Identity of the run.
        warn: Function that is told, in one line, what could not be tidied up.
    """

    def __init__(
        self,
        folder: Folder,
        identity: RunIdentity,
        *,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self._folder = folder
        self._identity = identity
        self._warn = warn
        self._poison: dict[int, frozenset[int]] = {}

    def claim(self) -> RunState:
        """Claim the folder for this run, unless it is this run's already, and read the run's state.

        Raises:
            LedgerError: As of `look`, or another run was faster.
            PathColumnError: The folder's path would hide a column of the result.
        """
        state = self.look()
        if state.manifest is not None:
            self._tidy()
            return state
        mine = _json({"run_id": self._identity.run_id, **self._identity.to_dict()})
        if not (state.claimed or self._folder.create(IDENTITY, mine)):
            self._compare(self._folder.read(IDENTITY), IDENTITY)
        self._folder.sweep()
        self._poison = dict(state.poison)
        return replace(state, claimed=True)

    def look(self) -> RunState:
        """Read the run's state, without writing or deleting anything.

        Raises:
            LedgerError: The folder belongs to another run, or has parquet files that belong to
                none.
            PathColumnError: The folder's path would hide a column of the result.
        """
        where, names = self._folder.location, self._folder.list()
        if _OLD_IDENTITY in names:
            raise LedgerError(
                f"{where} holds a run of an earlier version of `vea score`, which laid it out "
                "differently: choose another --out"
            )
        if SUCCESS in names and MANIFEST in names:
            return RunState(self._compare(self._folder.read(MANIFEST), MANIFEST))
        inside = self._folder.list(RUN)
        if IDENTITY not in inside:
            self._refuse_foreign(names)
            embedding = ("embedding",) if self._identity.embeddings else ()
            refuse_varying(where, (*self._identity.keep, *embedding))
        else:
            self._compare(self._folder.read(IDENTITY), IDENTITY)
        poison = {_index(n): self._read_poison(n) for n in inside if n.startswith(POISON)}
        parts = {name: size for name, size in inside.items() if name.startswith(PART)}
        return RunState(None, IDENTITY in inside, parts, poison)

    def load_part_stats(self, names: Sequence[str]) -> list[PartReport]:
        """Count the rows of parts that are done; the reports are in the order of the names.

        Raises:
            ObjectMissing: A part is missing. If it existed before, another attempt has finished the
                run meanwhile, and `claim` tells so.
            PartError: A file is not a part.
        """

        def report(name: str) -> PartReport:
            try:
                return parquet.report_part(name, self._folder.read(name))
            except ValueError as error:
                raise compaction.damaged(name, self._folder, error) from None

        with ThreadPoolExecutor(compaction.READERS, thread_name_prefix="vea-parts") as pool:
            try:
                return list(pool.map(report, names))
            finally:
                pool.shutdown(cancel_futures=True)

    def quarantine(self, chunk: Chunk, positions: Sequence[int] | frozenset[int]) -> None:
        """Record for later attempts that images of a chunk kill the process that scores them.

        Args:
            chunk: Chunk that the images are in.
            positions: Positions in the list; those that were quarantined before remain.
        """
        known = self._poison.get(chunk.index, frozenset()) | frozenset(positions)
        self._folder.write(f"{POISON}{chunk.index:05d}.json", _json({"positions": sorted(known)}))
        self._poison[chunk.index] = known

    def mark_failed(self, reasons: Mapping[str, int]) -> None:
        """Record that the run ended with too many failures, so that another run may replace it."""
        record = {"run_id": self._identity.run_id, "reasons": dict(sorted(reasons.items()))}
        with suppress(VeaError):  # the failures are what the user has to hear of
            self._folder.write(FAILED_RUN, _json(record))

    def finish(
        self,
        names: Sequence[str],
        *,
        model: ModelIdentity,
        list_location: str,
        facts: Mapping[str, Any],
        rows_per_file: int = compaction.ROWS_PER_FILE,
        expand: compaction.Expansion | None = None,
    ) -> dict[str, Any]:
        """Turn all parts into the files that people read, and mark the run as finished.

        Args:
            names: Names of all parts of the run, in the order of its chunks.
            model: Identity of the model that scored them.
            list_location: Location of the list as the user gave it.
            facts: Facts about this attempt only, such as when it began and how fast it was.
            rows_per_file: Maximum number of rows in a file.
            expand: Function from the rows of the parts, one for each distinct image, to the rows
                of the list; None if the parts hold these.

        Returns:
            Content of ``_manifest.json``, also if the run was finished before.

        Raises:
            LedgerError: A part is missing.
            PartError: A part is damaged, or does not follow the one before it.
        """
        if done := self._finished(self._folder.list()):
            return done
        distinct = compaction.Counts()
        try:
            files, counts = compaction.compact(
                self._folder,
                names,
                run_id=self._identity.run_id,
                columns=self._identity.columns,
                leave_out=path_columns(self._folder.location),
                rows_per_file=rows_per_file,
                expand=expand,
                of_parts=distinct,
            )
        except ObjectMissing as missing:
            # Another attempt that finished the same run has deleted the parts.
            if done := self._finished(self._folder.list()):
                return done
            raise LedgerError(f"{missing}: start again, and its images are scored again") from None
        self._delete_stale({file.name for file in files})
        manifest: dict[str, Any] = {
            "run_id": self._identity.run_id,
            **counts.to_dict(),
            "bytes": sum(file.bytes for file in files),
            "files": [file.to_dict() for file in files],
            "parts": len(names),
            "model": model.to_dict(),
            "list": list_location,
            "settings": self._identity.to_dict(),
            "facts": dict(facts),
        }
        if expand:
            of_images = distinct.to_dict()
            manifest["distinct"] = {name: of_images[name] for name in ("rows", "reasons")}
        if self._identity.since:
            manifest["copied"] = counts.copied
        self._folder.write(MANIFEST, _json(manifest))
        self._folder.write(SUCCESS, b"")
        self._tidy()
        return manifest

    def _finished(self, names: Mapping[str, int]) -> dict[str, Any] | None:
        """The manifest if this run is finished; its remaining parts are deleted."""
        if SUCCESS not in names or MANIFEST not in names:
            return None
        manifest = self._compare(self._folder.read(MANIFEST), MANIFEST)
        self._tidy()
        return manifest

    def _tidy(self) -> None:
        """Delete what a finished run no longer needs; a failure is only a warning."""
        try:
            inside = self._folder.list(RUN)
            self._folder.delete(
                [name for name in inside if name.startswith((PART, POISON, INDEX, FAILED_RUN))]
            )
        except VeaError as error:
            if self._warn:
                # Some programs (DuckDB with '**') read files below '_run'.
                self._warn(
                    f"the run is complete, but the parts in {self._folder.location}/{RUN} remain: "
                    f"{error}; readers of '**' would see their rows twice"
                )
                self._warn = None

    def _delete_stale(self, current: set[str]) -> None:
        """Remove files that an earlier, interrupted compaction wrote and this one did not."""
        found = self._folder.list(compaction.PREFIX)
        self._folder.delete([n for n in found if n.endswith(SUFFIX) and n not in current])

    def _refuse_foreign(self, names: Mapping[str, int]) -> None:
        if parts := [name for name in names if name.endswith(SUFFIX)]:
            raise LedgerError(
                f"{self._folder.location} holds parquet files that `vea score` did not write, "
                f"such as {min(parts)}: choose another --out"
            )

    def _read_poison(self, name: str) -> frozenset[int]:
        try:
            return frozenset(int(p) for p in json.loads(self._folder.read(name))["positions"])
        except (ValueError, TypeError, KeyError):
            raise LedgerError(
                f"{name} in {self._folder.location} is damaged: delete it and start again"
            ) from None

    def _compare(self, text: bytes, name: str) -> dict[str, Any]:
        """What a JSON file of the folder says, if it is this run's."""
        where = self._folder.location
        try:
            there = dict(json.loads(text))
            settings, run_id = dict(there.get("settings", there)), there["run_id"]
        except (ValueError, TypeError, KeyError):
            raise LedgerError(
                f"{name} in {where} is damaged: empty the folder or choose another --out"
            ) from None
        if run_id == self._identity.run_id:
            return there
        mine = self._identity.to_dict()
        changed = [
            words for k, words in SETTINGS_IN_WORDS.items() if settings.get(k) != mine.get(k)
        ]
        raise LedgerError(
            f"{where} holds another run: {', '.join(changed) or 'its identity'} differs; "
            "choose another --out for this one, or --replace-failed if that one failed"
        )


def _index(name: str) -> int:
    return int(name.removeprefix(POISON).removesuffix(".json"))


def _json(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, indent=2, sort_keys=True) + "\n").encode()
