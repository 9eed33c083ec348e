"""Finished runs, made without a model."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

from part_rows import COLUMNS, IDENTITY, MODEL

from handler.values.emotions import MIKELS
from jobs.output import parquet
from jobs.output.ledger import Ledger
from jobs.storage.folders import open_folder
from jobs.storage.stores import Stores
from jobs.values.chunks import Chunk
from jobs.values.layout import part_name

FACTS = {
    "started": "2026-11-24T02:30:00+00:00",
    "seconds": 90.0,
    "images": 100,
    "images_per_second": 20.0,
    "busy_share": 0.9,
}


def scored(emotion, confidence=0.6, *, image=None, **values):
    """A row without its position; the probability that is left goes to the other emotions."""
    rest = (1 - confidence) / (len(MIKELS) - 1)
    positive = MIKELS.polarity(MIKELS.index(emotion))
    return {
        "image": image,
        "status": "ok",
        "emotion": emotion,
        **{f"p_{label}": confidence if label == emotion else rest for label in MIKELS.labels},
        "polarity": positive,
        "p_positive": 0.7 if positive == "positive" else 0.3,
        "faces": 0,
        "width": 640,
        "height": 480,
        "objects": 3,
        **values,
    }


def failed(stage, kind, image=None):
    why = {"stage": stage, "reason_kind": kind, "reason": "so it is"}
    return {"image": image, "status": "failed", **why}


def write_run(
    location,
    rows,
    *,
    model=MODEL,
    facts=FACTS,
    columns=COLUMNS,
    chosen=None,
    list_folder="/photos",
    **options,
):
    """Write a finished run of rows, whose files have the chosen columns; returns its manifest."""
    identity = replace(IDENTITY, model_digest=model.digest, list_folder=list_folder, columns=chosen)
    with closing(Stores()) as s3:
        folder = open_folder(str(location), s3)
        ledger = Ledger(folder, identity)
        ledger.claim()
        chunk = Chunk(0, 0, ())
        complete = [
            {
                "model_name": model.name,
                "model_version": model.version,
                "model_digest": model.digest,
                "run_id": identity.run_id,
                **row,
                "position": position,
                "image": row["image"] or f"{position}.jpg",
            }
            for position, row in enumerate(rows)
        ]
        folder.write(part_name(chunk), parquet.encode(complete, columns))
        return ledger.finish(
            [part_name(chunk)], model=model, list_location="list.txt", facts=facts, **options
        )


def emotions(**counts):
    """So many rows of each emotion."""
    return [scored(emotion) for emotion, count in counts.items() for _ in range(count)]
