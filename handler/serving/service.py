"""The TorchServe handler: TorchServe's rows -> `Answerer` -> TorchServe's responses, nothing else.

What a request may look like is in `handler.serving.requests`, how it is answered in
`handler.serving.answers`: neither knows TorchServe. Every item of a dynamic batch gets an answer
and a status of its own. Reasons come with the answer on ``/explanations/MODEL``, or on
``/predictions/MODEL`` with the header ``X-Explain: true``. TorchServe loads the one class that this
file defines.
"""

from __future__ import annotations

import json
import os
from http import HTTPStatus
from pathlib import Path
from typing import Any

import torch

import handler
from handler.batch_metrics import Measures
from handler.predictor import Predictor
from handler.serving import torchserve_metrics
from handler.serving.answers import Answer, Answerer
from handler.serving.requests import Asked, read_request, says_yes
from handler.serving.warm_up import warm_up
from handler.values.prediction import Refusal


class VisualEmotionService:
    """One worker's handler."""

    def __init__(self) -> None:
        self.answerer: Answerer | None = None

    def initialize(self, context: Any) -> None:
        """Load the archive that TorchServe has unpacked, and score with it once."""
        settings = context.model_yaml_config or {}
        own = settings.get("handler") or {}
        threads = int(own.get("threads") or _threads(settings))
        torch.set_num_threads(threads)
        properties = context.system_properties
        gpu = properties.get("gpu_id")
        device = f"cuda:{gpu}" if torch.cuda.is_available() and gpu is not None else "cpu"
        predictor = Predictor.load(
            properties["model_dir"],
            device=device,
            threads=threads,
            half=bool(own.get("half", False)),
        )
        warm_up(predictor, max_batch=int(properties.get("batch_size") or 1))
        self.answerer = Answerer(predictor)

    def handle(self, rows: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Answer a batch.

        Args:
            rows: of each request, its body (field ``body``) or the parts of its form.
            context: TorchServe's; takes the status and the content type of each answer.

        Returns:
            One JSON document for each row, in order.
        """
        answerer = self.answerer
        assert answerer is not None
        measures = Measures()
        # BaseHandler asks the first request for all of them; here each speaks for itself.
        headers = [context.get_all_request_header(i) for i in range(len(rows))]
        described = ["describe" in _wishes(one) for one in headers]
        requests = [
            _asked(row, one)
            for row, one, card in zip(rows, headers, described, strict=True)
            if not card
        ]
        answered = iter(answerer.answer(requests, measures))
        answers = [self._card() if card else next(answered) for card in described]
        for i, answer in enumerate(answers):
            # There is no default content type.
            context.set_response_content_type(i, "application/json")
            if answer.status != HTTPStatus.OK:
                phrase = HTTPStatus(answer.status).phrase
                context.set_response_status(code=answer.status, phrase=phrase, idx=i)
        torchserve_metrics.report(measures, requests=len(rows), metrics=context.metrics)
        return [answer.body for answer in answers]

    def _card(self) -> Answer:
        return Answer(HTTPStatus.OK, json.dumps(self.describe_handle()).encode())

    def describe_handle(self) -> dict[str, Any]:
        """The model card, and which code serves the model, for the management API."""
        assert self.answerer is not None
        folder = Path(handler.__file__).resolve().parent
        code = {"version": handler.__version__, "folder": str(folder)}
        return {"card": self.answerer.predictor.card, "code": code}


def _asked(row: dict[str, Any], headers: dict[str, Any]) -> Asked | Refusal:
    # The content types of the parts stand among the headers, in dicts.
    kinds = {
        name: value["content-type"]
        for name, value in headers.items()
        if isinstance(value, dict) and isinstance(value.get("content-type"), str)
    }
    lengths = [
        int(value)
        for name, value in headers.items()
        if name.lower() == "content-length" and isinstance(value, str) and value.isdecimal()
    ]
    asked = read_request(row, kinds, length=lengths[0] if lengths else None)
    if isinstance(asked, Asked) and "explain" in _wishes(headers):
        return Asked(asked.images, explain=True, many=asked.many)
    return asked


def _wishes(headers: dict[str, Any]) -> set[str]:
    """Names, in lower case and without ``x-``, of the request's headers that say yes."""
    # TorchServe itself sets `explain` to say which path was asked, over a client's header of
    # exactly that name: hence X-Explain. Other names keep the client's case.
    return {name.lower().removeprefix("x-") for name, value in headers.items() if says_yes(value)}


def _threads(settings: dict[str, Any]) -> int:
    """Threads of a worker.

    Workers times threads should be the number of cores: more of them fight for the cache. Who
    starts the workers says it with OMP_NUM_THREADS; else TorchServe's own rule holds, a worker for
    each core.
    """
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (cores or 1) // int(settings.get("maxWorkers") or cores or 1))
