"""The TorchServe handler with a stand-in for TorchServe's context."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from handler.serving.service import VisualEmotionService


class Context:
    """As much of `ts.context.Context` as the handler uses."""

    metrics = None

    def __init__(
        self, folder: Path, headers: list[dict[str, Any]], settings: dict[str, Any] | None = None
    ) -> None:
        self.model_yaml_config = settings or {}
        self.system_properties = {"model_dir": str(folder), "gpu_id": None, "batch_size": 2}
        self.headers = headers
        self.statuses = [200] * len(headers)
        self.kinds: list[str | None] = [None] * len(headers)

    def get_request_id(self, position: int) -> str:
        return f"own-{position}"

    def get_all_request_header(self, position: int) -> dict[str, Any]:
        return self.headers[position]

    def set_response_status(self, *, code: int, phrase: str, idx: int) -> None:
        assert phrase
        self.statuses[idx] = code

    def set_response_content_type(self, position: int, kind: str) -> None:
        self.kinds[position] = kind


@pytest.fixture(autouse=True)
def _as_many_threads_as_before():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def service(tiny_model: Path) -> VisualEmotionService:
    service = VisualEmotionService()
    service.initialize(Context(tiny_model, []))
    return service


def test_each_row_is_read_by_its_own_headers(
    service: VisualEmotionService, tiny_model: Path, photo, encode
) -> None:
    image = bytearray(encode(photo(1), "JPEG"))
    kind = {"content-type": "application/json"}
    rows = [{"body": image}, {"body": image}, {"body": bytearray(b'{"im')}, {}, {"body": image}]
    headers = [{}, {"x-EXPLAIN": "True"}, {"body": kind}, {}, {"describe": "true"}]
    context = Context(tiny_model, headers)
    documents = [json.loads(answer) for answer in service.handle(rows, context)]
    assert context.statuses == [200, 200, 400, 400, 200]
    assert context.kinds == ["application/json"] * 5
    assert [("activation" in one, "card" in one) for one in documents] == [
        *[(False, False), (True, False)],
        *[(False, False), (False, False), (False, True)],
    ]


@pytest.mark.parametrize(
    ("environment", "settings", "expected"),
    [
        ("3", {}, 3),
        ("3", {"handler": {"threads": 2}}, 2),
        ("", {"maxWorkers": 1000}, 1),
        ("nonsense", {}, 1),
    ],
)
def test_the_number_of_threads_is_told_or_follows_from_the_workers(
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    environment: str,
    settings: dict[str, Any],
    expected: int,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", environment)
    VisualEmotionService().initialize(Context(tiny_model, [], settings))
    assert torch.get_num_threads() == expected


def test_the_model_has_been_asked_before_the_first_request(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(
        "handler.predictor.Predictor.predict",
        lambda self, images, **options: asked.append(len(images)) or [],
    )
    context = Context(tiny_model, [])
    context.system_properties["batch_size"] = 6
    VisualEmotionService().initialize(context)
    assert asked == [1, 2, 4, 6]
