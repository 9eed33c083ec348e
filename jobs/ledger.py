"""The ledger of a run: whose the output folder is, which parts are done, when all are.

    _run.json        what run the folder belongs to; written first, and only if absent
    part-00042.parquet ...
    _manifest.json   all parts with their counts; written when all are there
    _SUCCESS         empty; written last

A part that exists is done, since objects are written whole; there is no other record that could
disagree with it. A folder belongs to one run for ever: a start with another list, model or setting
is refused and told what differs. This is simpler than keeping runs apart by name inside one folder,
and whoever reads the folder can never get rows of two models. Names that start with '_' are passed
over by parquet readers, so `pandas.read_parquet(folder)` works.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from handler.errors import VeaError
from handler.predictor import ModelIdentity
from jobs.chunks import RunIdentity
from jobs.folders import Folder
from jobs.sink import FAILED, OK, SUFFIX, PartReport, report_part

RUN, MANIFEST, SUCCESS = "_run.json", "_manifest.json", "_SUCCESS"
_WORDS = {
    "list_sha256": "the list of images",
    "list_folder": "the folder of the list",
    "column": "--column",
    "model_digest": "the model",
    "chunk_size": "--chunk-size",
    "max_bytes": "the limit of bytes",
    "max_pixels": "the limit of pixels",
    "format": "the format of the parts",
}


class LedgerError(VeaError):
    """The output folder does not fit this run; the message is one line for people."""


class Ledger:
    """The state of one run in its output folder.

    Args:
        folder: of the output.
        identity: of the run.
    """

    def __init__(self, folder: Folder, identity: RunIdentity) -> None:
        self._folder = folder
        self._identity = identity

    def claim(self) -> dict[str, int]:
        """Make the folder this run's own, or find that it is.

        Returns:
            Names and sizes in bytes of the parts that are done.

        Raises:
            LedgerError: the folder belongs to another run, or to nobody but has parquet files.
        """
        names = self._folder.list()
        parts = {name: size for name, size in names.items() if name.endswith(SUFFIX)}
        where = self._folder.location
        if RUN not in names:
            if parts:
                raise LedgerError(
                    f"{where} holds parquet files that `vea score` did not write, such as "
                    f"{min(parts)}: choose another --out"
                )
            mine = {"run_id": self._identity.run_id, **self._identity.to_dict()}
            if self._folder.create(RUN, _json(mine)):
                return parts
        # Also when somebody else was faster a moment ago.
        self._compare(self._folder.read(RUN))
        return parts

    def recall(self, name: str) -> PartReport:
        """Count the rows of a part that is done.

        Raises:
            LedgerError: it is not a part.
        """
        try:
            return report_part(name, self._folder.read(name))
        except (ValueError, KeyError) as error:
            line = str(error).strip().splitlines()[0]
            raise LedgerError(
                f"{name} in {self._folder.location} is damaged ({line}): delete it and start again"
            ) from None

    def finish(
        self, reports: Sequence[PartReport], *, model: ModelIdentity, list_location: str
    ) -> dict[str, Any]:
        """Write ``_manifest.json``, then ``_SUCCESS``; returns what the former says."""
        reasons = Counter[str]()
        for report in reports:
            reasons.update(report.reasons)
        rows = sum(report.rows for report in reports)
        failed = sum(report.failed for report in reports)
        manifest: dict[str, Any] = {
            "run_id": self._identity.run_id,
            "rows": rows,
            "bytes": sum(report.bytes for report in reports),
            "status": {OK: rows - failed, FAILED: failed},
            "reasons": dict(sorted(reasons.items())),
            "model": {"name": model.name, "version": model.version, "digest": model.digest},
            "list": list_location,
            "settings": self._identity.to_dict(),
            "parts": [report.to_dict() for report in sorted(reports, key=lambda r: r.name)],
        }
        self._folder.write(MANIFEST, _json(manifest))
        self._folder.write(SUCCESS, b"")
        return manifest

    def _compare(self, text: bytes) -> None:
        where = self._folder.location
        try:
            there = dict(json.loads(text))
        except (ValueError, TypeError):
            raise LedgerError(
                f"{RUN} in {where} is damaged: empty the folder or choose another --out"
            ) from None
        if there.get("run_id") == self._identity.run_id:
            return
        mine = self._identity.to_dict()
        changed = [_WORDS[key] for key, value in mine.items() if there.get(key) != value]
        raise LedgerError(
            f"{where} holds another run: {', '.join(changed) or 'its identity'} differs; "
            "choose another --out for this one"
        )


def _json(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, indent=2, sort_keys=True) + "\n").encode()
