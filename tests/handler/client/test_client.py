"""What the client sends, sends again and gives up, against a server that follows a script."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scripted_service import DOCUMENT, Heard, Said, scripted

from handler.client import AsyncClient, Client, EndpointError, Refused, RetryPolicy, Unavailable

pytestmark = pytest.mark.integration

BUSY = Said(503, {"code": 503, "type": "ServiceUnavailableException", "message": "no worker"})
DIED = Said(500, {"code": 500, "type": "InternalServerException", "message": "Worker died."})
RAISED = Said(503, {"code": 503, "type": "InternalServerException", "message": "Prediction failed"})
NO_KEY = Said(400, {"code": 400, "type": "InvalidKeyException", "message": "Token incorrect"})
CUT_OFF = Said(0)
QUICK = RetryPolicy(deadline=20.0, base_delay=0.001, max_delay=0.002)

Predict = Callable[..., Any]


def blocking(url: str, image: bytes, explain: bool = False, **options: Any) -> Any:
    with Client(url, model="m", **{"policy": QUICK, **options}) as client:
        return client.predict(image, explain=explain)


def asynchronous(url: str, image: bytes, explain: bool = False, **options: Any) -> Any:
    async def predict() -> Any:
        async with AsyncClient(url, model="m", **{"policy": QUICK, **options}) as client:
            return await client.predict(image, explain=explain)

    return asyncio.run(predict())


@pytest.fixture(params=[blocking, asynchronous])
def predict(request: pytest.FixtureRequest) -> Predict:
    return request.param


def test_the_image_is_the_body_and_the_key_a_bearer(predict: Predict) -> None:
    with scripted(Said()) as service:
        assert predict(service.url + "/", b"image", key="k") == DOCUMENT
        predict(service.url, b"image", explain=True, version="1/0")
    plain, explained = service.heard
    assert (plain.method, plain.path, plain.body) == ("POST", "/predictions/m", b"image")
    assert plain.headers["Authorization"] == "Bearer k"
    assert explained.path == "/explanations/m/1%2F0"
    assert "Authorization" not in explained.headers


@pytest.mark.parametrize("failure", [BUSY, DIED, RAISED, CUT_OFF, Said(429, {}), Said(502, b"x")])
def test_what_may_have_been_lost_is_sent_again(predict: Predict, failure: Said) -> None:
    with scripted(failure, failure, Said()) as service:
        assert predict(service.url, b"image") == DOCUMENT
    assert [heard.body for heard in service.heard] == [b"image"] * 3


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_what_is_said_about_the_image_is_final(predict: Predict, status: int) -> None:
    reason = {"error": {"code": status, "reason": "no image"}}
    with (
        scripted(Said(status, reason), Said()) as service,
        pytest.raises(Refused, match="no image") as refusal,
    ):
        predict(service.url, b"image")
    assert (refusal.value.status, refusal.value.reason) == (status, "no image")
    assert len(service.heard) == 1


def test_a_busy_service_is_asked_until_the_time_is_up(predict: Predict) -> None:
    policy = RetryPolicy(deadline=0.5, base_delay=0.01, max_delay=0.02)
    began = time.monotonic()
    with scripted(BUSY) as service, pytest.raises(Unavailable, match="no worker") as given_up:
        predict(service.url, b"image", policy=policy)
    assert time.monotonic() - began < 2.5
    assert given_up.value.tries == len(service.heard) > 5
    assert not given_up.value.server_error


@pytest.mark.parametrize("failure", [DIED, RAISED])
def test_a_service_that_breaks_down_is_asked_a_few_times_only(
    predict: Predict, failure: Said
) -> None:
    policy = RetryPolicy(max_server_errors=3, base_delay=0.001)
    with scripted(BUSY, failure) as service, pytest.raises(Unavailable) as given_up:
        predict(service.url, b"image", policy=policy)
    assert given_up.value.server_error
    assert len(service.heard) == 4


def test_a_server_that_does_not_answer_is_left_after_the_timeout(predict: Predict) -> None:
    over = threading.Event()

    def hang(heard: Heard) -> Said:
        over.wait(10)
        return Said()

    with scripted(answer=hang) as service:
        try:
            policy = RetryPolicy(max_server_errors=2, base_delay=0.001)
            with pytest.raises(Unavailable, match="in time"):
                predict(service.url, b"image", policy=policy, timeout=0.2)
        finally:
            over.set()
    assert len(service.heard) == 2


def test_no_server_at_all_is_unavailable(predict: Predict) -> None:
    with scripted(Said()) as service:
        pass
    policy = RetryPolicy(deadline=0.2, base_delay=0.01)
    with pytest.raises(Unavailable, match="no connection"):
        predict(service.url, b"image", policy=policy)


def test_the_server_says_how_long_to_wait(predict: Predict) -> None:
    with scripted(Said(429, {}, {"Retry-After": "1"}), Said()) as service:
        began = time.monotonic()
        predict(service.url, b"image")
        assert time.monotonic() - began >= 1.0
    hours = Said(503, {}, {"Retry-After": "3600"})
    with scripted(hours, Said()) as service, pytest.raises(Unavailable):
        predict(service.url, b"image")
    assert len(service.heard) == 1


@pytest.mark.parametrize("status", [301, 404, 405])
def test_a_wrong_address_is_named_at_once(predict: Predict, status: int) -> None:
    with (
        scripted(Said(status, {"message": "not here"})) as service,
        pytest.raises(EndpointError, match="not here") as error,
    ):
        predict(service.url, b"image")
    assert error.value.status == status
    assert len(service.heard) == 1


@pytest.mark.parametrize("document", [b"<html>", {"emotion": "awe"}, [1], {"model": "m"}])
def test_an_answer_of_something_else_is_no_prediction(predict: Predict, document: Any) -> None:
    with scripted(Said(200, document)) as service, pytest.raises(EndpointError, match="vea model"):
        predict(service.url, b"image")


@pytest.mark.parametrize("refusal", [NO_KEY, Said(401, {}), Said(403, {})])
def test_a_refused_key_is_never_printed(predict: Predict, refusal: Said) -> None:
    with scripted(refusal) as service, pytest.raises(EndpointError, match="key") as error:
        predict(service.url, b"image", key="a-secret")
    assert len(service.heard) == 1
    assert "a-secret" not in f"{error.value!r} {error.value.__cause__!r}"


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8080", "ftp://host", "http://", "http://user:secret@host", "http://h/?q=1"]
)
def test_what_is_no_endpoint_is_said_so(url: str) -> None:
    with pytest.raises(EndpointError) as error:
        Client(url, model="m")
    assert "user:secret" not in str(error.value)


def test_the_environments_proxy_never_sees_a_request(
    predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted(Said(200, {"a": "proxy"})) as proxy, scripted(Said()) as service:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        assert predict(service.url, b"image", key="k") == DOCUMENT
    assert proxy.heard == []


def by_body(heard: Heard) -> Said:
    """Odd numbers are no images; each answer names its image, and early ones come late."""
    number = int(heard.body)
    time.sleep(0.02 if number % 4 == 0 else 0)
    if number % 2:
        return Said(415, {"error": {"code": 415, "reason": f"not {number}"}})
    return Said(200, {**DOCUMENT, "emotion": str(number)})


def said(answer: Any) -> str:
    return answer.reason if isinstance(answer, Refused) else answer["emotion"]


EXPECTED = [f"not {number}" if number % 2 else str(number) for number in range(40)]


class Source:
    """Forty images, and how many were taken."""

    taken = 0

    def __iter__(self) -> Iterator[bytes]:
        for number in range(40):
            self.taken += 1
            yield str(number).encode()


def test_many_images_are_answered_in_order_and_few_are_held() -> None:
    source = Source()
    with scripted(answer=by_body) as service, Client(service.url, model="m", concurrency=4) as it:
        answers = it.predict_many(source)
        assert said(next(answers)) == "0"
        assert source.taken == 4
        assert [said(answer) for answer in answers] == EXPECTED[1:]


def test_an_event_loop_gets_the_same_answers_in_order() -> None:
    source = Source()

    async def all_of(url: str) -> list[str]:
        async with AsyncClient(url, model="m", concurrency=4) as client:
            answers = client.predict_many(source)
            first = await anext(answers)
            assert source.taken == 4
            return [said(first)] + [said(answer) async for answer in answers]

    with scripted(answer=by_body) as service:
        assert asyncio.run(all_of(service.url)) == EXPECTED


def test_no_more_requests_are_under_way_than_allowed() -> None:
    now, most, lock = 0, 0, threading.Lock()

    def count(heard: Heard) -> Said:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.01)
        with lock:
            now -= 1
        return Said()

    with scripted(answer=count) as service, Client(service.url, model="m", concurrency=3) as client:
        assert len(list(client.predict_many([b"image"] * 30))) == 30
    assert 1 < most <= 3


def test_ready_is_a_real_prediction() -> None:
    with scripted(Said(), BUSY) as service, Client(service.url, model="m") as client:
        assert client.ready()
        assert service.heard[0].body.startswith(b"\x89PNG")
        assert not client.ready()
    assert len(service.heard) == 2


@pytest.mark.parametrize(
    "error",
    [Refused(415, "no image"), EndpointError("no", 404), Unavailable("there", "busy", 3, True)],
)
def test_errors_pass_between_processes_whole(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
