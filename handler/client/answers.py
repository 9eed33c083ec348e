"""JSON document of a service -> `Prediction` and `ModelIdentity`: the inverse of ``to_dict``."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

from PIL import Image

from handler.client.errors import EndpointError
from handler.client.exchange import Answer
from handler.values.places import Box
from handler.values.prediction import AttendedObject, Face, ModelIdentity, Prediction
from handler.values.runtimes import TORCH
from handler.values.things import DetectedThing


def model_of(answer: Answer) -> ModelIdentity:
    """Identity of the archive that made a prediction."""
    model = answer["model"]
    # Archives of earlier versions do not name it: they have one runtime only.
    runtime = model.get("runtime", TORCH)
    faces, detects = "face" in answer, "detected" in answer
    return ModelIdentity(model["name"], model["version"], model["digest"], runtime, faces, detects)


def prediction_of(answer: Answer) -> Prediction:
    """The prediction in an answer; it has objects and activation only if they were requested.

    Raises:
        EndpointError: The answer does not have the schema of this version.
    """
    try:
        polarity, face, size = answer["polarity"], answer.get("face"), answer["image_size"]
        probability = polarity["probability"]
        positive = probability if polarity["label"] == "positive" else 1.0 - probability
        covered = answer.get("activation_box")
        rows = answer.get("activation")
        return Prediction(
            emotion=answer["emotion"],
            probabilities=answer["probabilities"],
            p_positive=positive,
            polarity=polarity["label"],
            face_count=face["count"] if face else None,
            face=_face(face) if face and face["found"] else None,
            objects=tuple(_object(item) for item in answer.get("objects", ())),
            activation=tuple(tuple(row) for row in rows) if rows else None,
            width=size["width"],
            height=size["height"],
            activation_box=tuple(covered) if covered else None,
            detected=_detected(answer),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise EndpointError(
            f"the answer of the service does not have the expected schema ({error!r}): "
            "do the service and this program have the same version?"
        ) from None


def _face(face: dict[str, Any]) -> Face:
    crop = face.get("crop")
    pixels = Image.open(io.BytesIO(base64.b64decode(crop))).tobytes() if crop else None
    return Face(_box(face["box"]), face["score"], pixels)


def _detected(answer: Answer) -> tuple[DetectedThing, ...] | None:
    if "detected" not in answer:
        return None
    return tuple(
        DetectedThing(item["label"], item["score"], _box(item["box"]), item["attention"])
        for item in answer["detected"]
    )


def _box(sides: Sequence[float]) -> Box:
    x1, y1, x2, y2 = sides
    return (x1, y1, x2, y2)


def _object(item: dict[str, Any]) -> AttendedObject:
    box, attribute = _box(item["box"]), item.get("attribute")
    return AttendedObject(item["label"], item["score"], box, item["attention"], attribute)
