"""The TorchServe handler: requests -> `Predictor` -> responses, nothing else.

A request carries one image, as the raw body or as the first part of a form. Every item of a
dynamic batch gets an answer and a status of its own: one broken image never fails its neighbours.
TorchServe loads the one class that this file defines.
"""

from __future__ import annotations

import json
import os
from typing import Any

import torch

from handler.predictor import ModelIdentity, Prediction, Predictor, Refusal

_PHRASES = {
    400: "Bad Request",
    413: "Payload Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
}


class VisualEmotionService:
    """One worker's handler."""

    def __init__(self) -> None:
        self.predictor: Predictor | None = None

    def initialize(self, context: Any) -> None:
        """Load the archive that TorchServe has unpacked."""
        settings = (context.model_yaml_config or {}).get("handler", {})
        # Workers times threads should be the number of cores: more of them fight for the cache.
        torch.set_num_threads(int(settings.get("threads", os.cpu_count() or 1)))
        properties = context.system_properties
        gpu = properties.get("gpu_id")
        device = f"cuda:{gpu}" if torch.cuda.is_available() and gpu is not None else "cpu"
        self.predictor = Predictor.load(properties["model_dir"], device=device)

    def handle(self, rows: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Answer a batch: one JSON document for each row, in order."""
        assert self.predictor is not None
        # TorchServe looks for this header in the first request only; ask for each.
        explain = [context.get_request_header(i, "explain") == "True" for i in range(len(rows))]
        images = [_image_of(row) for row in rows]
        readable = [image for image in images if isinstance(image, bytes)]
        scored = iter(self.predictor.predict(readable, explain=any(explain)))
        answers = [next(scored) if isinstance(i, bytes) else i for i in images]
        return [
            _respond(answer, position, context, self.predictor.model, explain[position])
            for position, answer in enumerate(answers)
        ]

    def describe_handle(self) -> dict[str, Any]:
        """The model card, for the management API."""
        assert self.predictor is not None
        return self.predictor.card


def _image_of(row: dict[str, Any]) -> bytes | Refusal:
    for value in row.values():
        if isinstance(value, bytes | bytearray):
            return bytes(value)
        if isinstance(value, str | dict | list):
            break
    if not row:
        return Refusal(400, "the request has no body; send the image's bytes")
    return Refusal(
        415, "send the image itself, as the body (application/octet-stream) or as a form file"
    )


def _respond(
    answer: Prediction | Refusal, position: int, context: Any, model: ModelIdentity, explain: bool
) -> bytes:
    # There is no default content type.
    context.set_response_content_type(position, "application/json")
    if isinstance(answer, Refusal):
        phrase = _PHRASES.get(answer.code, "Bad Request")
        context.set_response_status(code=answer.code, phrase=phrase, idx=position)
        return json.dumps(answer.to_dict()).encode()
    return json.dumps(answer.to_dict(model, explain=explain)).encode()
