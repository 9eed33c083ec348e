"""Who works for `vea score`: processes, a Ray cluster, and which shard of the chunks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from jobs.engines.base import Engine


def engine_of(ray: str | None, workers: int | None, threads: int, gpus: float) -> Engine:
    """Who works."""
    from jobs.engines.base import InThisProcess
    from jobs.engines.processes import Processes
    from jobs.engines.ray import OnRay

    if ray is not None:
        if workers == 0:
            raise typer.BadParameter("0 with --ray: expected at least 1", param_hint="--workers")
        return OnRay(ray, workers=workers, gpus_per_worker=gpus)
    if gpus:
        raise typer.BadParameter("only with --ray; see --device", param_hint="--gpus-per-worker")
    if workers == 0:
        return InThisProcess()
    # A container or `taskset` may leave fewer processors than there are.
    return Processes(workers or max(1, len(os.sched_getaffinity(0)) // threads))


def read_shard(text: str | None) -> tuple[int, int] | None:
    """``3/8`` as numbers."""
    if text is None:
        return None
    index, slash, of = text.partition("/")
    if not (slash and index.isdecimal() and of.isdecimal() and int(index) < int(of)):
        raise typer.BadParameter(
            f"'{text}': expected I/N with I from 0 to N-1, such as 0/8", param_hint="--shard"
        )
    return int(index), int(of)
