"""Answers: each request has its own, whatever happens to its neighbours, and none is too large."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from handler.batch_metrics import BatchMetrics
from handler.predictor import Predictor
from handler.serving.answers import MAX_BYTES, MAX_OBJECTS, MAX_SIDE, Responder, capped
from handler.serving.requests import MAX_IMAGES, InferenceRequest
from handler.values.prediction import AttendedObject, Prediction, Refusal

TORCHSERVE_LIMIT = 6_553_500


@pytest.fixture(scope="module")
def predictor(tiny_model: Path) -> Predictor:
    return Predictor.load(tiny_model)


@pytest.fixture(scope="module")
def images(photo, encode) -> list[bytes]:
    return [encode(photo(seed), "PNG") for seed in range(4)]


class Poisoned:
    """A predictor that breaks whenever a certain image is in the batch."""

    def __init__(self, predictor: Predictor, poison: bytes, error: BaseException) -> None:
        self.predictor, self.poison, self.error = predictor, poison, error
        self.model = predictor.model

    def predict(self, images: Sequence[bytes], **options: Any) -> list[Prediction | Refusal]:
        if self.poison in images:
            raise self.error
        return self.predictor.predict(images, **options)


class Fixed:
    """A predictor that always says the same."""

    def __init__(self, predictor: Predictor, prediction: Prediction) -> None:
        self.model, self.prediction = predictor.model, prediction

    def predict(self, images: Sequence[bytes], **options: Any) -> list[Prediction | Refusal]:
        return [self.prediction] * len(images)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("an unforeseen\nbug"), 500),
        (MemoryError(), 507),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 507),
    ],
)
def test_an_unforeseen_error_fails_its_image_and_no_other(
    predictor: Predictor, images: list[bytes], error: Exception, status: int
) -> None:
    responder = Responder(Poisoned(predictor, images[1], error))
    requests = [InferenceRequest((image,)) for image in images[:3]]
    answers = responder.answer([*requests, InferenceRequest(tuple(images[1:3]), many=True)])
    assert [answer.status for answer in answers] == [200, status, 200, 200]
    said = json.loads(answers[1].body)["error"]
    assert said["code"] == status
    assert "\n" not in said["reason"]
    broken, sound = json.loads(answers[3].body)["predictions"]
    assert broken["error"]["code"] == status
    assert sound["emotion"]


def test_those_who_ask_get_reasons_and_the_others_none(
    predictor: Predictor, images: list[bytes]
) -> None:
    requests = [InferenceRequest((image,), explain=bool(i % 2)) for i, image in enumerate(images)]
    documents = [json.loads(one.body) for one in Responder(predictor).answer(requests)]
    assert ["activation" in document for document in documents] == [False, True, False, True]


def test_refused_requests_keep_their_places(predictor: Predictor, images: list[bytes]) -> None:
    requests = [
        Refusal(400, "no"),
        InferenceRequest((images[0],)),
        InferenceRequest((b"text",)),
        InferenceRequest((images[1],)),
    ]
    answers = Responder(predictor).answer(requests)
    assert [answer.status for answer in answers] == [400, 200, 415, 200]
    expected = predictor.predict([images[1]])[0]
    found = json.loads(answers[3].body)
    assert found["probabilities"] == pytest.approx(expected.probabilities, abs=1e-4)


def monstrous(prediction: Prediction) -> Prediction:
    """As large as no model makes it: thousands of objects, a heat map of a million cells."""
    thing = AttendedObject("x" * 40, 1 / 3, (1 / 3, 2 / 3, 100 / 3, 200 / 3), 1 / 3, "y" * 40)
    grid = tuple(tuple((row * column % 97) / 97 for column in range(1000)) for row in range(1000))
    return replace(prediction, objects=(thing,) * 5000, activation=grid)


def test_the_largest_answer_that_there_can_be_is_within_the_servers_limit(
    predictor: Predictor, images: list[bytes]
) -> None:
    (prediction,) = predictor.predict(images[:1], explain=True)
    responder = Responder(Fixed(predictor, monstrous(prediction)))
    most = InferenceRequest((b"x",) * MAX_IMAGES, explain=True, many=True)
    (answer,) = responder.answer([most])
    assert answer.status == 200
    assert len(json.loads(answer.body)["predictions"]) == MAX_IMAGES
    assert TORCHSERVE_LIMIT / 4 < len(answer.body) <= MAX_BYTES < TORCHSERVE_LIMIT


def test_an_answer_beyond_the_limit_is_refused_not_sent(
    predictor: Predictor, images: list[bytes]
) -> None:
    responder = Responder(predictor, max_bytes=1000)
    answers = responder.answer(
        [InferenceRequest((images[0],)), InferenceRequest(tuple(images), many=True)]
    )
    assert [answer.status for answer in answers] == [200, 413]
    assert "fewer images" in json.loads(answers[1].body)["error"]["reason"]


def test_capping_keeps_the_most_attended_objects_and_the_mean_of_the_heat(
    predictor: Predictor, images: list[bytes]
) -> None:
    (prediction,) = predictor.predict(images[:1], explain=True)
    assert capped(prediction) is prediction
    large = capped(monstrous(prediction))
    assert len(large.objects) == MAX_OBJECTS
    assert len(large.activation) <= MAX_SIDE
    assert len(large.activation[0]) <= MAX_SIDE
    flat = replace(prediction, activation=((0.25,) * 130,) * 70)
    assert {value for row in capped(flat).activation for value in row} == {0.25}


def test_a_batch_is_measured_where_its_stages_are(
    predictor: Predictor, images: list[bytes]
) -> None:
    metrics = BatchMetrics()
    requests = [
        InferenceRequest(tuple(images[:3]), many=True),
        InferenceRequest((b"text",)),
        Refusal(400, "no"),
    ]
    Responder(predictor).answer(requests, metrics)
    assert set(metrics.seconds) == {"decode", "select", "network", "whole"}
    assert all(seconds > 0 for seconds in metrics.seconds.values())
    assert metrics.images == 4
    assert metrics.received == sum(map(len, images[:3])) + 4
    assert metrics.refusals == {"not-an-image": 1, "bad-request": 1}


def test_one_request_cannot_ask_for_more_pixels_than_the_limit(
    predictor: Predictor, images: list[bytes]
) -> None:
    (answer, alone) = Responder(predictor, max_pixels=2 * 96 * 64).answer(
        [InferenceRequest(tuple(images), many=True), InferenceRequest(images[:1])]
    )
    codes = [one.get("error", {}).get("code") for one in json.loads(answer.body)["predictions"]]
    assert codes == [None, None, 413, 413]
    assert alone.status == 200
