"""A user's own `jobs.py`, `train.py` or `handler.py` in the current folder does no harm."""

import json
import os
import subprocess
import sys

import pytest

from tests.shipped import ARCHIVE, REPOSITORY
from vea.serving.ports import Ports

pytestmark = [pytest.mark.integration, pytest.mark.long]


@pytest.fixture
def folder(tmp_path, photo, encode):
    for name in ("handler", "jobs", "train", "model_store"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the user\\'s own module ran')\n")
    (tmp_path / "photo.jpg").write_bytes(encode(photo(3), "JPEG"))
    (tmp_path / "list.txt").write_text("photo.jpg\n")
    return tmp_path


@pytest.fixture(params=["module", "script"])
def vea(request, folder, tmp_path_factory):
    """Runs the program in the user's folder, as `python -m vea` or as the installed script."""
    script = tmp_path_factory.mktemp("bin") / "vea"
    script.write_text('from vea.__main__ import main\n\nif __name__ == "__main__":\n    main()\n')
    program = ["-m", "vea"] if request.param == "module" else [str(script)]
    # The empty entry, which many shells' settings leave, is the current folder too.
    environment = {**os.environ, "PYTHONPATH": f"{os.pathsep}{REPOSITORY}"}

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, *program, *map(str, arguments)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_a_photo_is_predicted_with_the_shipped_model(vea):
    (answer,) = json.loads(vea("predict", "photo.jpg", "--json"))
    assert answer["model"]["name"] == "vea-lite"


def test_a_list_is_scored(vea):
    score = ("score", "list.txt", "--out", "out", "--model", ARCHIVE, "--json", "--workers", "1")
    assert json.loads(vea(*score))["ok"] == 1


def test_a_list_is_scored_with_ray(vea, only_ray):
    score = ("score", "list.txt", "--out", "out", "--model", ARCHIVE, "--json", "--workers", "1")
    assert json.loads(vea(*score, "--ray", "auto"))["ok"] == 1


def test_days_are_filled_in(vea, folder):
    (folder / "2026-11-01.txt").write_text("photo.jpg\n")
    score = ("backfill", "{date}.txt", "--out", "nights/dt={date}", "--model", ARCHIVE)
    vea(*score, "--from", "2026-11-01", "--to", "2026-11-01", "--", "--workers", "1")
    assert (folder / "nights" / "dt=2026-11-01" / "_SUCCESS").exists()


def test_a_service_answers(vea, folder):
    state, key = folder / "state", folder / "state" / "key_file.json"
    chosen = Ports.choose()
    ports = (
        *("--port", chosen.inference, "--management-port", chosen.management),
        *("--metrics-port", chosen.metrics),
    )
    vea("serve", "--detach", "--state", state, *ports)
    try:
        score = ("score", "list.txt", "--out", "served", "--endpoint-key-file", key, "--json")
        scored = json.loads(vea(*score, "--endpoint", f"http://127.0.0.1:{chosen.inference}"))
        assert scored["ok"] == 1
    finally:
        vea("serve", "--stop", "--state", state)


def test_folders_named_like_the_packages_do_not_hide_them_from_a_script(tmp_path):
    """Such as the folder of a clone, for a script that lies beside it."""
    names = ("vea", "handler", "jobs", "train")
    for name in names:
        (tmp_path / name).mkdir()
    script = tmp_path / "mine.py"
    script.write_text(
        f"import {', '.join(names)}\n"
        f"print([bool(module.__file__) for module in ({', '.join(names)})])\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[True, True, True, True]"
