"""A user's own `jobs.py`, `train.py` or `handler.py` in the current folder does no harm."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shipped import ARCHIVE, REPOSITORY

pytestmark = pytest.mark.integration


@pytest.fixture
def folder(tmp_path, photo, encode):
    for name in ("handler", "jobs", "train", "model_store"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the user\\'s own module ran')\n")
    (tmp_path / "photo.jpg").write_bytes(encode(photo(3), "JPEG"))
    (tmp_path / "list.txt").write_text("photo.jpg\n")
    return tmp_path


def vea(folder, *arguments):
    """Runs the program in the user's folder, as `python -m` does: that folder comes first."""
    # The packages of this checkout come after it.
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-m", "vea", *map(str, arguments)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_photo_is_predicted_with_the_shipped_model(folder):
    (answer,) = json.loads(vea(folder, "predict", "photo.jpg", "--json"))
    assert answer["model"]["name"] == "vea-lite"


@pytest.mark.parametrize("where", [("--workers", "1"), ("--ray", "auto", "--workers", "1")])
def test_a_list_is_scored(folder, where):
    score = ("score", "list.txt", "--out", "out", "--model", ARCHIVE, "--json", *where)
    assert json.loads(vea(folder, *score))["ok"] == 1


def test_a_service_answers(folder):
    state, key = folder / "state", folder / "state" / "key_file.json"
    ports = ("--port", "18480", "--management-port", "18481", "--metrics-port", "18482")
    vea(folder, "serve", "--detach", "--state", state, *ports)
    try:
        score = ("score", "list.txt", "--out", "served", "--endpoint-key-file", key, "--json")
        scored = json.loads(vea(folder, *score, "--endpoint", "http://127.0.0.1:18480"))
        assert scored["ok"] == 1
    finally:
        vea(folder, "serve", "--stop", "--state", state)
    assert Path(state).is_dir()
