"""What goes wrong with TorchServe, and what our users see of it: an answer, or a clear line.

After each failure the service answers again, and the client has lost nothing that it could send
again. One server for all, with a queue, a batch and a time limit small enough to hit.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from marked_service import BATCH, HANG, HANG_ONCE, LARGE, PAUSE, RAISE
from torchserve_server import all_at_once, ask, drawn_images

from handler.client import Client, EndpointError, Refused, RetryPolicy, Unavailable
from vea.serving.server import TorchServe

pytestmark = pytest.mark.integration

IMAGE = drawn_images(1)[0]


@pytest.fixture
def server(marked_server: TorchServe) -> TorchServe:
    return marked_server


@pytest.fixture
def client(server: TorchServe) -> Iterator[Client]:
    with server.client.patient(concurrency=12, timeout=30.0) as patient:
        yield patient
        assert patient.predict(IMAGE)["emotion"], "the service answers again"


def worker_of(server: TorchServe) -> psutil.Process:
    """The process that holds the model; waits until there is one."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        for process in server.processes():
            if any("model_service_worker" in word for word in process.cmdline()):
                return process
        time.sleep(0.05)
    raise AssertionError("no worker")


def scored(answers: list[Any]) -> int:
    return sum(isinstance(answer, dict) and "emotion" in answer for answer in answers)


def test_a_body_over_the_limit_is_refused_in_words(server: TorchServe, client: Client) -> None:
    body = b"\xff\xd8\xff" + bytes(30 * 1024 * 1024)
    status, answer = ask(server, body)
    assert (status, answer) == (413, {}), "TorchServe itself says nothing"
    with pytest.raises(Refused, match="31457283 bytes, more than the service accepts") as refusal:
        client.predict(body)
    assert refusal.value.status == 413


def test_a_full_queue_turns_requests_away_and_the_client_sends_them_again(
    server: TorchServe, client: Client
) -> None:
    calls = [partial(ask, server, IMAGE + PAUSE) for _ in range(30)]
    statuses = [status for status, _ in all_at_once(calls)]
    assert statuses.count(503) > 0, "the queue was not full"
    assert statuses.count(200) + statuses.count(503) == 30
    calls = [partial(client.predict, IMAGE + PAUSE) for _ in range(30)]
    assert scored(all_at_once(calls)) == 30


def test_a_worker_killed_in_mid_batch_costs_the_client_nothing(
    server: TorchServe, client: Client
) -> None:
    answers: list[Any] = []
    first = threading.Event()

    def load() -> None:
        for answer in client.predict_many([IMAGE + PAUSE] * 24):
            answers.append(answer)
            first.set()

    asking = threading.Thread(target=load)
    asking.start()
    # From the first answer on, every batch takes half a second and the next one follows at once.
    assert first.wait(30)
    worker_of(server).kill()
    asking.join(90)
    assert scored(answers) == 24


def test_a_worker_killed_in_mid_batch_fails_that_batch_for_those_who_do_not_ask_again(
    server: TorchServe, client: Client
) -> None:
    def kill() -> None:
        time.sleep(0.25)  # into the half second that the batch takes
        worker_of(server).kill()

    calls: list[Any] = [partial(ask, server, IMAGE + PAUSE) for _ in range(BATCH)]
    statuses: list[int] = []
    # On a busy machine the batch may not have begun, or be over, when the worker dies.
    while 500 not in statuses and len(statuses) < 6 * BATCH:
        assert client.predict(IMAGE)["emotion"]
        *replies, _ = all_at_once([*calls, kill])
        statuses += [status for status, _ in replies]
    assert 500 in statuses, "or the test above proves nothing"


def test_a_worker_killed_while_idle_is_not_noticed(server: TorchServe, client: Client) -> None:
    worker_of(server).kill()
    assert client.predict(IMAGE)["emotion"]


def test_a_request_that_hangs_once_is_answered_in_the_end(
    server: TorchServe, client: Client
) -> None:
    assert client.predict(IMAGE + HANG_ONCE)["emotion"]


@pytest.mark.long
def test_a_request_that_always_hangs_is_given_up_and_others_are_answered(
    server: TorchServe, client: Client
) -> None:
    policy = RetryPolicy(max_server_errors=2)
    with server.client.patient(policy=policy) as impatient:

        def hang() -> str:
            with pytest.raises(Unavailable, match="after 2 tries") as given_up:
                impatient.predict(IMAGE + HANG)
            assert given_up.value.server_error
            return given_up.value.reason

        reason, *others = all_at_once([hang, *[partial(client.predict, IMAGE)] * 3])
    assert "Worker died" in reason or "respon" in reason
    assert scored(others) == 3


def test_an_image_on_which_the_handler_raises_is_given_up_with_the_servers_words(
    server: TorchServe, client: Client
) -> None:
    with (
        server.client.patient(policy=RetryPolicy(max_server_errors=2)) as impatient,
        pytest.raises(Unavailable) as given_up,
    ):
        impatient.predict(IMAGE + RAISE)
    assert given_up.value.server_error
    assert "prediction failed" in given_up.value.reason.lower()


def test_a_missing_model_or_version_is_named_at_once(server: TorchServe, client: Client) -> None:
    keys = server.directory.keys
    with (
        Client(url_of(server), model="nobody", key_file=keys) as wrong,
        pytest.raises(EndpointError, match="Model not found: nobody"),
    ):
        wrong.predict(IMAGE)
    with (
        Client(url_of(server), model="tiny", version="9.9", key_file=keys) as wrong,
        pytest.raises(EndpointError, match=r"9\.9 does not exist"),
    ):
        wrong.predict(IMAGE)


@pytest.mark.parametrize("key", ["a-wrong-secret", None])
def test_a_bad_key_is_named_at_once_and_never_printed(
    server: TorchServe, client: Client, key: str | None
) -> None:
    with (
        Client(url_of(server), model="tiny", key=key) as wrong,
        pytest.raises(EndpointError, match="does not accept the key") as refusal,
    ):
        wrong.predict(IMAGE)
    assert "secret" not in str(refusal.value)


def test_a_key_about_to_expire_is_renewed_before_it_is_sent(
    server: TorchServe, client: Client
) -> None:
    keys = server.directory.keys
    before = json.loads(keys.read_text())
    soon = (datetime.now(UTC) + timedelta(seconds=30)).isoformat().replace("+00:00", "Z")
    before["inference"]["expiration time"] = soon
    keys.write_text(json.dumps(before))
    assert client.predict(IMAGE)["emotion"]
    after = json.loads(keys.read_text())["inference"]
    assert after["key"] != before["inference"]["key"]
    assert datetime.fromisoformat(after["expiration time"]) > datetime.fromisoformat(soon)


@pytest.mark.long
def test_a_key_that_has_expired_is_replaced_if_it_can_be(
    tmp_path: Path, tiny_archive: Path
) -> None:
    soon = {"token_expiration_min": "0.05"}
    with TorchServe.running(tiny_archive, tmp_path / "state", workers=1, properties=soon) as server:
        entry = json.loads(server.directory.keys.read_text())["inference"]
        expires = datetime.fromisoformat(entry["expiration time"])
        while datetime.now(UTC) <= expires:
            time.sleep(0.1)
        with (
            Client(url_of(server), model="tiny", key=entry["key"]) as stale,
            pytest.raises(EndpointError, match="incorrect, expired, or not"),
        ):
            stale.predict(IMAGE)
        with server.client.patient() as client:
            assert client.predict(IMAGE)["emotion"]


def test_keys_renewed_by_others_all_the_time_lose_no_request(
    server: TorchServe, client: Client
) -> None:
    over = threading.Event()
    rotations = 0

    def rotate() -> None:
        nonlocal rotations
        while not over.is_set():
            master = json.loads(server.directory.keys.read_text())["API"]["key"]
            status, _ = server.client.ask(
                "GET",
                "/token?type=inference",
                service="management",
                headers={"Authorization": f"Bearer {master}"},
            )
            assert status == 200
            rotations += 1
            over.wait(0.2)

    rotating = threading.Thread(target=rotate)
    rotating.start()
    try:
        answers = list(client.predict_many([IMAGE] * 60))
    finally:
        over.set()
        rotating.join()
    assert scored(answers) == 60
    assert rotations > 1


@pytest.mark.parametrize(
    ("body", "kind"),
    [(b'{"image": ', "application/json"), (b"", "application/json"), (b"", "text/plain")],
)
def test_malformed_json_and_nothing_at_all_are_refused_with_a_reason(
    server: TorchServe, client: Client, body: bytes, kind: str
) -> None:
    status, answer = ask(server, body, {"Content-Type": kind})
    assert 400 <= status < 500
    assert answer["error"]["reason"]


@pytest.mark.long
def test_an_answer_too_large_for_torchserve_is_given_up_and_others_are_answered(
    server: TorchServe, client: Client
) -> None:
    with server.client.patient(policy=RetryPolicy(max_server_errors=2)) as impatient:

        def want_too_much() -> str:
            with pytest.raises(Unavailable) as given_up:
                impatient.predict(IMAGE + LARGE)
            assert given_up.value.server_error
            return given_up.value.reason

        _, *others = all_at_once([want_too_much, *[partial(client.predict, IMAGE)] * 3])
    assert scored(others) == 3


def url_of(server: TorchServe) -> str:
    return f"http://127.0.0.1:{server.ports.inference}"
