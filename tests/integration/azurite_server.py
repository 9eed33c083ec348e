"""Azurite, Microsoft's emulator of Azure Blob Storage, for the tests that find it installed.

It comes from npm (``npm install azurite``); ``azurite-blob`` has to be on the PATH.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from email.utils import formatdate

import pytest
import urllib3
from azurite_account import ACCOUNT, KEY, connection_string

_PATIENCE = 60.0


@contextmanager
def azurite(containers: Sequence[str]) -> Iterator[str]:
    """Run the emulator, in memory; gives its origin."""
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("azurite-blob is not on the PATH: npm install azurite")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *(program, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence"),
        *("--silent", "--disableTelemetry", "--skipApiVersionCheck"),
        # A proxy between would not notice that an idle connection was closed behind it.
        *("--blobKeepAliveTimeout", "3600"),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            origin = f"http://127.0.0.1:{port}"
            for name in containers:
                _create(origin, name)
            yield origin
        finally:
            process.terminate()


def _create(origin: str, container: str) -> None:
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-12-02"}
    ours = "".join(f"{name}:{value}\n" for name, value in headers.items())
    resource = f"/{ACCOUNT}/{ACCOUNT}/{container}\nrestype:container"
    text = f"PUT{12 * chr(10)}{ours}{resource}"
    digest = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
    url, end = f"{origin}/{ACCOUNT}/{container}?restype=container", time.monotonic() + _PATIENCE
    while True:
        try:
            answer = urllib3.request("PUT", url, headers=headers, retries=False)
        except urllib3.exceptions.HTTPError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
            continue
        assert answer.status == 201, answer.data
        return


@pytest.fixture(scope="session")
def azurite_origin() -> Iterator[str]:
    with azurite(["photos", "results"]) as origin:
        yield origin


@pytest.fixture
def azure(azurite_origin: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The emulator, with the environment set so that programs find it; gives its origin."""
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection_string(azurite_origin))
    return azurite_origin
