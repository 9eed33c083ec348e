"""`vea score` with the compiled form of a model: killed at random, then resumed, same bytes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.integration, pytest.mark.long]

PICTURES, ROUNDS, CHUNK = 30, 4, 3


@pytest.fixture
def listed(tmp_path: Path, photo, encode) -> Path:
    """A list that holds every picture several times; one of them is damaged."""
    for number in range(PICTURES):
        (tmp_path / f"{number}.png").write_bytes(encode(photo(number, (400, 300)), "PNG"))
    (tmp_path / "7.png").write_bytes(b"no picture")
    (tmp_path / "list.txt").write_text("".join(f"{n}.png\n" for n in range(PICTURES)) * ROUNDS)
    return tmp_path / "list.txt"


def start(listed: Path, out: Path, model: Path) -> subprocess.Popen[bytes]:
    """`vea score` as a user types it: the runtime is what the archive has."""
    command = [
        *(sys.executable, "-m", "vea.main", "score", str(listed), "--out", str(out)),
        *("--model", str(model), "--workers", "1", "--chunk-size", str(CHUNK)),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def finish(process: subprocess.Popen[bytes]) -> None:
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said.decode()


def kill_after(process: subprocess.Popen[bytes], out: Path, parts: int) -> None:
    """Kill -9 of the driver and its workers once so many parts exist."""
    end = time.monotonic() + 120
    while len(list((out / "_run").glob("part-*"))) < parts:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.005)
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for one in family:
        one.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def result(out: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in out.glob("*.parquet")}


def test_killed_and_resumed_runs_of_the_compiled_form_write_the_same_bytes(
    listed: Path, tmp_path: Path, compiled_model: Path
) -> None:
    finish(start(listed, tmp_path / "calm", compiled_model))
    chooser, out = random.Random(5), tmp_path / "killed"
    for least in (1, 6):
        kill_after(start(listed, out, compiled_model), out, least + chooser.randrange(3))
        assert not (out / "_SUCCESS").exists()
    finish(start(listed, out, compiled_model))
    assert result(out) == result(tmp_path / "calm") != {}
    for folder in (out, tmp_path / "calm"):
        manifest = json.loads((folder / "_manifest.json").read_text())
        assert manifest["model"]["runtime"] == "onnx"
