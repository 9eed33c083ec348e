"""A failed run is replaced by another attempt, without deleting anything by hand.

A run has failed if it ended with too many failures: `jobs.output.ledger.Ledger.mark_failed` left a
record of that, or its manifest shows it. Every other run stays as it is: a finished one is kept, an
interrupted one is resumed.

The first deletion makes the run unfinished, and its identity is deleted last, so that an attempt
that is killed in between leaves a failed run, which the next attempt replaces.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jobs.monitoring.counter import TooManyFailed, judge, judged
from jobs.output.compaction import PREFIX
from jobs.output.ledger import Ledger
from jobs.storage.folders import Folder
from jobs.values.layout import FAILED_RUN, IDENTITY, MANIFEST, PART, RUN, SUCCESS, SUFFIX


def discard_failed(folder: Folder, max_error_rate: float | None, *, keep: str | None) -> bool:
    """Delete the run in a folder if it failed.

    Args:
        folder: Folder of the output.
        max_error_rate: Limit that a finished run is judged by.
        keep: Identifier of the run that is about to start. If it is this one that failed before it
            was finished, its rows stay, and `retry_failed` has the failed ones scored again.

    Returns:
        Whether there was such a run.
    """
    if not would_discard(folder, max_error_rate, keep=keep):
        return False
    names, inside = folder.list(), folder.list(RUN)
    if SUCCESS in names and MANIFEST in names:
        run_id = _read(folder, MANIFEST).get("run_id")
        folder.write(FAILED_RUN, json.dumps({"run_id": run_id}).encode())
    for some in (
        [SUCCESS],
        [MANIFEST, *(name for name in names if name.startswith(PREFIX) and name.endswith(SUFFIX))],
        [name for name in inside if name not in (IDENTITY, FAILED_RUN)],
        [IDENTITY],
        [FAILED_RUN],
    ):
        folder.delete([name for name in some if name in names or name.startswith(RUN)])
    return True


def would_discard(folder: Folder, max_error_rate: float | None, *, keep: str | None) -> bool:
    """Whether `discard_failed` would delete the run in a folder."""
    names, inside = folder.list(), folder.list(RUN)
    if SUCCESS in names and MANIFEST in names:
        return _has_failed(_read(folder, MANIFEST), max_error_rate)
    return is_marked(folder, inside) and _read(folder, IDENTITY).get("run_id") != keep


def retry_failed(folder: Folder, ledger: Ledger) -> None:
    """Delete the parts with failed images of a run that failed, so that they are scored again.

    Args:
        folder: Folder of the output.
        ledger: Ledger of the run, which is the folder's.
    """
    inside = folder.list(RUN)
    if not is_marked(folder, inside):
        return
    reports = ledger.load_part_stats([name for name in inside if name.startswith(PART)])
    # The record goes first: another shard that starts now must not delete what this one scores.
    folder.delete([FAILED_RUN])
    folder.delete([report.name for report in reports if report.failed])


def is_marked(folder: Folder, inside: Mapping[str, int]) -> bool:
    """Whether the folder's unfinished run ended with too many failures."""
    if FAILED_RUN not in inside or IDENTITY not in inside:
        return False
    return bool(_read(folder, FAILED_RUN).get("run_id") == _read(folder, IDENTITY).get("run_id"))


def _has_failed(manifest: Mapping[str, Any], max_error_rate: float | None) -> bool:
    try:
        counted = judged(manifest)
        judge(counted["rows"], counted["reasons"], max_error_rate)
    except TooManyFailed:
        return True
    except (KeyError, TypeError, AttributeError):
        return False  # the ledger says what is wrong with it
    return False


def _read(folder: Folder, name: str) -> dict[str, Any]:
    try:
        return dict(json.loads(folder.read(name)))
    except (ValueError, TypeError):
        return {}
