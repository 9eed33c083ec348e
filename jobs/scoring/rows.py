"""What a row says of an answer: of a prediction, or of a failure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from handler.values.prediction import AttendedObject, Prediction
from handler.values.things import DetectedThing
from jobs.output.parquet import FACE_BOX, FAILED, OK, Row
from jobs.values.chunks import Entry
from jobs.values.tasks import Failure


def scored_row(answer: Prediction, *, boxes: bool) -> Row:
    """The columns of a prediction.

    Args:
        answer: Prediction for the image.
        boxes: Whether the row holds the boxes of the objects.
    """
    row: Row = {
        "status": OK,
        "stage": None,
        "reason_kind": None,
        "reason": None,
        "emotion": answer.emotion,
        **{f"p_{emotion}": p for emotion, p in answer.probabilities.items()},
        "polarity": answer.polarity,
        "p_positive": answer.p_positive,
        **_faces(answer),
        "objects": len(answer.objects),
        "width": answer.width,
        "height": answer.height,
    }
    if boxes:
        row["boxes"] = [_box(item) for item in answer.objects]
        if answer.detected is not None:
            row["detected"] = [_box(thing) for thing in answer.detected]
    if answer.embedding is not None:
        row["embedding"] = np.array(answer.embedding, np.float16)
    return row


def _box(item: AttendedObject | DetectedThing) -> Row:
    """An element of the columns of boxes."""
    return {
        **dict(zip(("x1", "y1", "x2", "y2"), item.box, strict=True)),
        "label": item.label,
        "score": item.score,
        "attention": item.attention,
    }


def _faces(answer: Prediction) -> Row:
    """The columns of faces; none where none were looked for."""
    if answer.face_count is None:
        return {}
    box = answer.face.box if answer.face else (None,) * len(FACE_BOX)
    return {"faces": answer.face_count, **dict(zip(FACE_BOX, box, strict=True))}


def kept_picture(entry: Entry, extra: Sequence[str]) -> str | None:
    """The column that passes the encoded image itself through, if there is one.

    Args:
        entry: Row of the list.
        extra: Names of the columns that pass through.
    """
    field = getattr(entry.inside, "field", None)
    return field if field in extra else None


def failed_row(failure: Failure) -> Row:
    """The columns of an image without a prediction."""
    return {
        "status": FAILED,
        "stage": failure.stage,
        "reason_kind": failure.kind,
        "reason": failure.reason,
    }
