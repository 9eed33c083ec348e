"""`vea web` as a process: it starts a TorchServe or uses one, and leaves behind what it found."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from gateway_server import send
from torchserve_server import REPOSITORY, drawn_images

from vea.serving.server import TorchServe

pytestmark = pytest.mark.integration
RAW = {"Content-Type": "application/octet-stream"}


def start(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    """The running command and the address that it printed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "vea.main", "web", "--port", "0", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    said = ""
    deadline = time.monotonic() + 240
    while not (address := re.search(r"Open (http://\S+)/ in a browser", said)):
        assert process.poll() is None, said
        assert time.monotonic() < deadline, said
        if select.select([process.stdout], [], [], 1.0)[0]:
            said += process.stdout.readline()
    return process, address[1]


def end(process: subprocess.Popen[str], number: int) -> str:
    process.send_signal(number)
    said, _ = process.communicate(timeout=90)
    return said


def test_it_uses_the_server_that_runs_and_leaves_it_running(tiny_server: TorchServe) -> None:
    process, address = start("--state", str(tiny_server.directory.state))
    try:
        status, answer, _ = send(address, "POST", "/predictions/tiny", drawn_images(1)[0], RAW)
        assert (status, answer["model"]["name"]) == (200, "tiny")
    finally:
        said = end(process, signal.SIGINT)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    assert tiny_server.predict(drawn_images(1)[0])[0] == 200


def test_it_starts_a_server_where_none_runs_and_stops_it(
    tmp_path: Path, tiny_archive: Path
) -> None:
    state = tmp_path / "state"
    process, address = start(str(tiny_archive), "--state", str(state))
    try:
        assert send(address, "GET", "/readyz")[0] == 200
        running = TorchServe.attach(state)
        assert running is not None
    finally:
        said = end(process, signal.SIGTERM)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    assert running.processes() == []
    assert TorchServe.attach(state) is None
