"""Rows and parts as a run writes them, made without a model or images."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from handler.values.emotions import MIKELS
from handler.values.prediction import ModelIdentity
from jobs.output import parquet
from jobs.values.chunks import Chunk, RunIdentity

IDENTITY = RunIdentity(
    list_sha256="a" * 64,
    list_folder="/photos",
    column=None,
    keep=("sku",),
    model_digest="d" * 64,
    chunk_size=3,
    max_bytes=1000,
    max_pixels=1000,
    boxes=False,
    hosts=(),
)
MODEL = ModelIdentity("vea-lite", "1.1", "d" * 64)
COLUMNS = parquet.schema(MIKELS.labels, extra=pa.schema([("sku", pa.string())]), boxes=False)


def identity(**changes):
    return replace(IDENTITY, **changes)


def row(position):
    """Every fifth one has failed."""
    origin = {
        "position": position,
        "image": f"{position}.jpg",
        "model_name": MODEL.name,
        "model_version": MODEL.version,
        "model_digest": MODEL.digest,
        "run_id": IDENTITY.run_id,
        "sku": f"0{position}",
    }
    if position % 5 == 4:
        why = {"stage": "fetch", "reason_kind": "missing", "reason": "there is no such object"}
        return {**origin, "status": "failed", **why}
    emotion = MIKELS.labels[position % len(MIKELS)]
    return {
        **origin,
        "status": "ok",
        "emotion": emotion,
        **{f"p_{label}": (label == emotion) * 1.0 for label in MIKELS.labels},
        "polarity": "positive",
        "p_positive": 0.5 + position % 7 / 14,
        "faces": position % 3,
        "width": 640,
        "height": 480,
        "objects": position % 4,
    }


def rows(start, stop):
    return [row(position) for position in range(start, stop)]


def write_parts(folder, total, size):
    """Parts of ``size`` rows; returns their names in order."""
    names = []
    for index, start in enumerate(range(0, total, size)) if total else [(0, 0)]:
        name = f"_run/{Chunk(index, start, ()).id}.parquet"
        folder.write(name, parquet.encode(rows(start, min(start + size, total)), COLUMNS))
        names.append(name)
    return names
