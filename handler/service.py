"""The TorchServe handler: requests -> `Predictor` -> responses, nothing else.

A request carries one image, as the raw body or as the only part of a form. Every item of a dynamic
batch gets an answer and a status of its own: one broken image never fails its neighbours. Reasons
come with the answer on ``/explanations/MODEL``, or on ``/predictions/MODEL`` with the header
``X-Explain: true``.
TorchServe loads the one class that this file defines.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

import handler
from handler.predictor import Prediction, Predictor, Refusal

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
        settings = context.model_yaml_config or {}
        # Workers times threads should be the number of cores: more of them fight for the cache.
        threads = max(1, (os.cpu_count() or 1) // int(settings.get("maxWorkers", 1)))
        torch.set_num_threads(int(settings.get("handler", {}).get("threads", threads)))
        properties = context.system_properties
        gpu = properties.get("gpu_id")
        device = f"cuda:{gpu}" if torch.cuda.is_available() and gpu is not None else "cpu"
        self.predictor = Predictor.load(properties["model_dir"], device=device)

    def handle(self, rows: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Answer a batch.

        Args:
            rows: of each request, its body (field ``body``) or the parts of its form.
            context: TorchServe's; takes the status and the content type of each answer.

        Returns:
            One JSON document for each row, in order.
        """
        predictor = self.predictor
        assert predictor is not None
        # BaseHandler asks the first request for all of them; here each speaks for itself.
        wants = [_wishes(context, i) for i in range(len(rows))]
        explain = ["explain" in want for want in wants]
        images = [_image_of(row) for row in rows]
        readable = [image for image in images if isinstance(image, bytes)]
        scored = iter(predictor.predict(readable, explain=any(explain)))
        answers: list[dict[str, Any]] = []
        for i, image in enumerate(images):
            answer = next(scored) if isinstance(image, bytes) else image
            # There is no default content type.
            context.set_response_content_type(i, "application/json")
            if "describe" in wants[i]:
                answers.append(self.describe_handle())
            elif isinstance(answer, Prediction):
                answers.append(answer.to_dict(predictor.model, explain=explain[i]))
            else:
                phrase = _PHRASES.get(answer.code, "Bad Request")
                context.set_response_status(code=answer.code, phrase=phrase, idx=i)
                answers.append(answer.to_dict())
        return [json.dumps(answer).encode() for answer in answers]

    def describe_handle(self) -> dict[str, Any]:
        """The model card, and which code serves the model, for the management API."""
        assert self.predictor is not None
        folder = Path(handler.__file__).resolve().parent
        code = {"version": handler.__version__, "folder": str(folder)}
        return {"card": self.predictor.card, "code": code}


def _wishes(context: Any, position: int) -> set[str]:
    """Names, in lower case and without ``x-``, of the request's headers that say yes."""
    # TorchServe itself sets `explain` to say which path was asked, over a client's header of
    # exactly that name: hence X-Explain. Other names keep the client's case, and the parts of a
    # form stand among them, with dicts for values.
    return {
        name.lower().removeprefix("x-")
        for name, value in context.get_all_request_header(position).items()
        if isinstance(value, str) and value.strip().lower() in ("true", "1", "yes")
    }


def _image_of(row: dict[str, Any]) -> bytes | Refusal:
    # TorchServe parses what the client calls text or JSON, and hands on as bytes what it cannot.
    if all(value in (b"", "") for value in row.values()):
        return Refusal(400, "the request has no body; send one image's bytes")
    if len(row) > 1:
        return Refusal(400, f"the form has {len(row)} parts; send one image for each request")
    (value,) = row.values()
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    sent = "text" if isinstance(value, str) else "JSON"
    return Refusal(
        415, f"the body is {sent}; send an image, as application/octet-stream or as a form's file"
    )
