"""The TorchServe handler: rows of TorchServe -> `Responder` -> responses of TorchServe.

`handler.serving.requests` parses requests and `handler.serving.answers` answers them; neither
depends on TorchServe. Every item of a dynamic batch gets an answer and a status of its own. Answers
include explanations on ``/explanations/MODEL``, and on ``/predictions/MODEL`` with the header
``X-Explain: true``. TorchServe loads the only class that this file defines.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import torch

import handler
from handler.batch_metrics import BatchMetrics
from handler.predictor import Predictor
from handler.serving import torchserve_metrics
from handler.serving.answers import Answer, Responder
from handler.serving.log_lines import RequestIds, request_id
from handler.serving.requests import InferenceRequest, parse_bool, read_request
from handler.serving.warm_up import warm_up
from handler.telemetry import SilentTelemetry, Telemetry, start_telemetry, valid_traceparent
from handler.values.configs import FACES_VARIABLE
from handler.values.prediction import Refusal
from handler.values.runtimes import AUTO, VARIABLE


class VisualEmotionService:
    """Handler of one worker."""

    def __init__(self) -> None:
        self.responder: Responder | None = None
        self.telemetry: Telemetry = SilentTelemetry()
        self._ids = RequestIds()

    def initialize(self, context: Any) -> None:
        """Load the archive that TorchServe has unpacked, and warm it up."""
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
            # Whoever starts the server has the last word.
            faces=os.environ.get(FACES_VARIABLE) != "off" and bool(own.get("faces", True)),
            runtime=os.environ.get(VARIABLE) or str(own.get("runtime") or AUTO),
        )
        warm_up(predictor, max_batch=int(properties.get("batch_size") or 1))
        self.responder = Responder(predictor)
        self._ids.install()
        self.telemetry = start_telemetry("vea-handler")

    def handle(self, rows: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Answer a batch.

        Args:
            rows: For each request, its body (field ``body``) or the parts of its form.
            context: Context of TorchServe; it receives status and content type of each answer.

        Returns:
            One JSON document for each row, in order.
        """
        responder = self.responder
        assert responder is not None
        batch = BatchMetrics()
        # BaseHandler reads the headers of the first request only; here each request has its own.
        headers = [context.get_all_request_header(i) for i in range(len(rows))]
        ids = [request_id(one, context.get_request_id(i)) for i, one in enumerate(headers)]
        with self._ids.answering(ids):
            answers = self._answer(responder, rows, headers, batch)
        for i, answer in enumerate(answers):
            # TorchServe sets no default content type.
            context.set_response_content_type(i, "application/json")
            if answer.status != HTTPStatus.OK:
                phrase = HTTPStatus(answer.status).phrase
                context.set_response_status(code=answer.status, phrase=phrase, idx=i)
        torchserve_metrics.report(batch, requests=len(rows), store=context.metrics)
        self._trace(batch, headers, ids, answers)
        return [answer.body for answer in answers]

    def _answer(
        self,
        responder: Responder,
        rows: list[dict[str, Any]],
        headers: list[dict[str, Any]],
        batch: BatchMetrics,
    ) -> list[Answer]:
        described = ["describe" in _flags(one) for one in headers]
        requests = [
            _read(row, one)
            for row, one, card in zip(rows, headers, described, strict=True)
            if not card
        ]
        answered = iter(responder.answer(requests, batch))
        return [self._card() if card else next(answered) for card in described]

    def _trace(
        self,
        batch: BatchMetrics,
        headers: list[dict[str, Any]],
        ids: list[str],
        answers: list[Answer],
    ) -> None:
        """A span for each request; all requests of a batch are answered together."""
        stages = {f"vea.{name}_seconds": round(took, 6) for name, took in batch.seconds.items()}
        for one, own, answer in zip(headers, ids, answers, strict=True):
            parent = next((v for k, v in one.items() if k.lower() == "traceparent"), None)
            self.telemetry.record(
                "vea.handle",
                seconds=batch.seconds.get("whole", 0.0),
                kind="server",
                traceparent=valid_traceparent(parent),
                attributes={
                    "vea.request_id": own,
                    "vea.batch_size": len(ids),
                    "http.response.status_code": int(answer.status),
                    **stages,
                },
            )

    def _card(self) -> Answer:
        return Answer(HTTPStatus.OK, json.dumps(self.describe_handle()).encode())

    def describe_handle(self) -> dict[str, Any]:
        """The model card and the version of the serving code, for the management API."""
        assert self.responder is not None
        folder = Path(handler.__file__).resolve().parent
        code = {"version": handler.__version__, "folder": str(folder)}
        return {"card": self.responder.predictor.card, "code": code}


def _read(row: dict[str, Any], headers: dict[str, Any]) -> InferenceRequest | Refusal:
    # TorchServe puts the content types of the parts among the headers, in dicts.
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
    request = read_request(row, kinds, length=lengths[0] if lengths else None)
    if isinstance(request, InferenceRequest) and "explain" in _flags(headers):
        return replace(request, explain=True)
    return request


def _flags(headers: dict[str, Any]) -> set[str]:
    """Names of the request's headers that are true, in lower case and without ``x-``."""
    # TorchServe itself sets `explain` to tell the two paths apart and overwrites a client's header
    # of that name: hence X-Explain. Other names keep the client's case.
    return {name.lower().removeprefix("x-") for name, value in headers.items() if parse_bool(value)}


def _threads(settings: dict[str, Any]) -> int:
    """Number of threads of a worker.

    Workers times threads should equal the number of cores: more threads compete for the cache. The
    process that starts the workers sets OMP_NUM_THREADS; without it, TorchServe's default of one
    worker per core is assumed.
    """
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (cores or 1) // int(settings.get("maxWorkers") or cores or 1))
