"""Keys out of TorchServe's file: renewed in time, read anew when they are refused."""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from scripted_service import DOCUMENT, Heard, Said, scripted

from handler.client import (
    AsyncClient,
    Client,
    EndpointError,
    KeyFile,
    RetryPolicy,
    Unavailable,
)
from handler.client.keys import management_beside

pytestmark = pytest.mark.integration

NO_KEY = Said(400, {"code": 400, "type": "InvalidKeyException", "message": "Token incorrect"})


class TorchServe:
    """The part of it that gives keys and asks for them."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.renewals = 0
        self.write("key-0", minutes=60)

    def write(self, key: str, *, minutes: float) -> None:
        """Write the key file as TorchServe does."""
        self.key = key
        expires = (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat()
        keys = {
            "inference": {"key": key, "expiration time": expires.replace("+00:00", "123Z")},
            "API": {"key": "master"},
        }
        self.file.write_text(json.dumps(keys))

    def answer(self, heard: Heard) -> Said:
        """Give a key, or a prediction for a valid one."""
        if heard.path == "/token?type=inference":
            assert heard.headers["Authorization"] == "Bearer master"
            self.renewals += 1
            self.write(f"key-{self.renewals}", minutes=60)
            return Said(200, {})
        return Said() if heard.headers.get("Authorization") == f"Bearer {self.key}" else NO_KEY


@pytest.fixture
def torchserve(tmp_path: Path) -> TorchServe:
    return TorchServe(tmp_path / "key_file.json")


def client_of(url: str, torchserve: TorchServe) -> Client:
    return Client(url, model="m", keys=KeyFile(torchserve.file, management=url))


def test_a_valid_key_is_used_as_it_is(torchserve: TorchServe) -> None:
    with scripted(answer=torchserve.answer) as service, client_of(service.url, torchserve) as it:
        assert it.predict(b"image") == DOCUMENT
    assert torchserve.renewals == 0


def test_a_key_in_its_last_minute_is_renewed_before_it_is_sent(torchserve: TorchServe) -> None:
    torchserve.write("old", minutes=0.5)
    with scripted(answer=torchserve.answer) as service, client_of(service.url, torchserve) as it:
        assert it.predict(b"image") == DOCUMENT
    assert [heard.path for heard in service.heard] == ["/token?type=inference", "/predictions/m"]


def test_many_requests_at_a_time_renew_a_key_once(torchserve: TorchServe) -> None:
    torchserve.write("old", minutes=-1)

    async def all_of(url: str) -> list[Any]:
        keys = KeyFile(torchserve.file, management=url)
        async with AsyncClient(url, model="m", keys=keys) as client:
            return [answer async for answer in client.predict_many([b"image"] * 20)]

    with scripted(answer=torchserve.answer) as service:
        assert asyncio.run(all_of(service.url)) == [DOCUMENT] * 20
        torchserve.write("old", minutes=-1)
        with client_of(service.url, torchserve) as client:
            assert list(client.predict_many([b"image"] * 20)) == [DOCUMENT] * 20
    assert torchserve.renewals == 2


def test_a_key_that_another_process_has_replaced_is_read_anew(torchserve: TorchServe) -> None:
    def rotate_first(heard: Heard) -> Said:
        if len(service.heard) == 1:
            torchserve.write("of-another", minutes=60)  # after ours was read, before it arrived
        return torchserve.answer(heard)

    with scripted(answer=rotate_first) as service, client_of(service.url, torchserve) as client:
        assert client.predict(b"image") == DOCUMENT
    assert torchserve.renewals == 0
    sent = [heard.headers["Authorization"] for heard in service.heard]
    assert sent == ["Bearer key-0", "Bearer of-another"]


def test_a_key_that_is_refused_though_the_file_has_no_other_is_renewed(
    torchserve: TorchServe,
) -> None:
    torchserve.key = "what the server really wants"
    with scripted(answer=torchserve.answer) as service, client_of(service.url, torchserve) as it:
        assert it.predict(b"image") == DOCUMENT
    assert torchserve.renewals == 1


def test_a_server_that_refuses_every_key_is_not_asked_for_ever(torchserve: TorchServe) -> None:
    def refuse(heard: Heard) -> Said:
        return torchserve.answer(heard) if heard.path.startswith("/token") else NO_KEY

    with (
        scripted(answer=refuse) as service,
        client_of(service.url, torchserve) as client,
        pytest.raises(EndpointError, match="does not accept the key") as error,
    ):
        client.predict(b"image")
    assert len(service.heard) < 10
    assert not any(key in str(error.value) for key in ("key-0", "key-1", "master"))


def test_a_server_that_is_started_anew_has_no_keys_for_a_while(torchserve: TorchServe) -> None:
    with scripted(answer=torchserve.answer) as service, client_of(service.url, torchserve) as it:
        it.predict(b"image")
        torchserve.file.unlink()
        again = threading.Timer(0.3, lambda: torchserve.write("of the new one", minutes=60))
        again.start()
        assert it.predict(b"image") == DOCUMENT
        again.join()


def test_a_server_that_is_gone_for_good_is_unavailable(torchserve: TorchServe) -> None:
    with scripted(answer=torchserve.answer) as service:
        keys = KeyFile(torchserve.file, management=service.url)
        with Client(service.url, model="m", keys=keys, policy=RetryPolicy(deadline=0.3)) as client:
            client.predict(b"image")
            torchserve.file.unlink()
            with pytest.raises(Unavailable, match="no access keys"):
                client.predict(b"image")


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"inference": 1}'])
def test_a_file_without_keys_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "key_file.json"
    if content is not None:
        file.write_text(content)
    with (
        Client("http://127.0.0.1:9", model="m", key_file=file) as client,
        pytest.raises(EndpointError, match=r"no access keys .*key_file\.json"),
    ):
        client.predict(b"image")


def test_the_management_port_is_found_beside_the_keys(tmp_path: Path) -> None:
    file = tmp_path / "key_file.json"
    assert management_beside(file) == "http://127.0.0.1:8081"
    (tmp_path / "config.properties").write_text(
        "inference_address=http://127.0.0.1:1\nmanagement_address=http://127.0.0.1:20001\n"
    )
    assert management_beside(file) == "http://127.0.0.1:20001"
