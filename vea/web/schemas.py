"""JSON schemas of the gateway's requests and answers, the model's documents among them."""

from __future__ import annotations

from typing import Any

from handler.serving.requests import MAX_IMAGES


def _object(properties: dict[str, Any], *optional: str) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "required": required, "properties": properties}


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _list(items: dict[str, Any], **more: int | str) -> dict[str, Any]:
    return {"type": "array", "items": items, **more}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"oneOf": [schema, {"type": "null"}]}


_TEXT: dict[str, Any] = {"type": "string"}
_NUMBER: dict[str, Any] = {"type": "number"}
# Sums of eight rounded numbers can be a little more than one.
_SHARE: dict[str, Any] = {"type": "number", "minimum": 0, "maximum": 1.0001}
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
_BOX = _list(_NUMBER, minItems=4, maxItems=4) | {
    "description": "x1, y1, x2, y2 in pixels of the image after EXIF rotation."
}
_FLAG: dict[str, Any] = {"type": "boolean"}
_CLOSED: dict[str, Any] = {"additionalProperties": False}
_BASE64: dict[str, Any] = {"type": "string", "minLength": 1, "contentEncoding": "base64"}

_PREDICTION: dict[str, Any] = {
    "emotion": _TEXT | {"description": "The most probable one."},
    "probabilities": {"type": "object", "additionalProperties": _SHARE, "minProperties": 2},
    "polarity": _object(
        {"label": {"type": "string", "enum": ["positive", "negative"]}, "probability": _SHARE}
    ),
    "face": _object(
        {
            "found": {"type": "boolean"},
            "count": _COUNT,
            "box": _or_null(_BOX),
            "score": _or_null(_NUMBER),
        }
    ),
    "image_size": _object({"width": _COUNT, "height": _COUNT}),
    "model": _object(
        {
            "name": _TEXT,
            "version": _TEXT,
            "digest": _TEXT,
            # Archives of earlier versions do not name it.
            "runtime": _TEXT | {"description": "What computed the backbones: torch or onnx."},
        },
        "runtime",
    ),
}
# A service that looks for no faces says nothing of them.
_FACES = "face"
_DETECTED = "detected"
_EXPLANATION = _PREDICTION | {
    "objects": _list(
        _object(
            {
                "label": _or_null(_TEXT | {"description": "Null where no name is likely right."}),
                "attribute": _or_null(_TEXT),
                "score": _NUMBER,
                "box": _BOX,
                "attention": _SHARE,
            },
            "attribute",
        )
    ),
    # Only models with a detector of further reasons have it.
    _DETECTED: _list(
        _object({"label": _TEXT, "score": _SHARE, "box": _BOX, "attention": _SHARE}),
        description="What a detector found beside the objects, as further reasons. The attention "
        "is that part of the objects' which falls into the box; it is added to nothing.",
    ),
    "activation": _or_null(_list(_list(_SHARE))),
    "activation_box": _or_null(_BOX),
}
# What is no image in a list is refused in its place, whatever it is, and fails nothing else.
_ANYTHING: dict[str, Any] = {"contentEncoding": "base64", "description": "An image."}

SCHEMAS: dict[str, Any] = {
    "Error": _object({"error": _object({"code": {"type": "integer"}, "reason": _TEXT})}),
    "Status": _object({"status": _TEXT}),
    "Description": {"type": "object"},
    "Models": _object(
        {
            "models": _list(
                _object(
                    {
                        "name": _TEXT,
                        "default": _TEXT,
                        "versions": _list(
                            _object(
                                {
                                    "version": _TEXT,
                                    "ready": {"type": "boolean"},
                                    "digest": _or_null(_TEXT),
                                    "card": {"type": "object", "additionalProperties": _TEXT},
                                }
                            )
                        ),
                    }
                )
            )
        }
    ),
    "Request": {
        "oneOf": [
            _object({"image": _BASE64, "explain": _FLAG}, "explain") | _CLOSED,
            _object(
                {"images": _list(_ANYTHING, minItems=1, maxItems=MAX_IMAGES), "explain": _FLAG},
                "explain",
            )
            | _CLOSED,
        ]
    },
    "Prediction": _object(_PREDICTION, _FACES),
    "Explanation": _object(_EXPLANATION, _FACES, _DETECTED, "activation_box"),
    # Of a request with a list of images: an answer for each, in order, whatever befell the others.
    "Predictions": _object(
        {"predictions": _list({"anyOf": [_reference("Prediction"), _reference("Error")]})}
    ),
    "Explanations": _object(
        {"predictions": _list({"anyOf": [_reference("Explanation"), _reference("Error")]})}
    ),
    "PredictionAnswer": {"anyOf": [_reference("Prediction"), _reference("Predictions")]},
    "ExplanationAnswer": {"anyOf": [_reference("Explanation"), _reference("Explanations")]},
}
