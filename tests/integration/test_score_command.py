"""`vea score` as a program of its own: what it prints where, and its exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.integration

ARCHIVE = Path(__file__).parents[2] / "model_store" / "vea-lite-1.0.mar"


def vea(*arguments):
    # Without the environment's width, tables and errors would be cut differently everywhere.
    environment = {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "vea.main", "score", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.fixture
def listed(tmp_path):
    Image.new("RGB", (32, 24), "orange").save(tmp_path / "a.jpg")
    (tmp_path / "list.txt").write_text("a.jpg\nb.jpg\n")
    return tmp_path / "list.txt"


def test_json_alone_goes_to_standard_output(listed, tmp_path):
    ended = vea(
        listed, "--out", tmp_path / "out", "--model", ARCHIVE, "--json", "--max-error-share", "0.4"
    )
    summary = json.loads(ended.stdout)
    assert (summary["rows"], summary["ok"], summary["failed"]) == (2, 1, 1)
    assert ended.returncode == 3
    assert ended.stderr.strip().endswith("(50.0%), more than --max-error-share 0.4")


def test_what_the_user_can_mend_is_one_line(tmp_path):
    ended = vea(tmp_path / "none.txt", "--out", tmp_path / "out", "--model", ARCHIVE)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr == f"vea: there is no list of images at {tmp_path / 'none.txt'}\n"


@pytest.mark.parametrize("wrong", [["--chunk-size", "0"], ["--max-error-share", "2"], ["--what"]])
def test_wrong_usage_exits_with_2(listed, tmp_path, wrong):
    ended = vea(listed, "--out", tmp_path / "out", "--model", ARCHIVE, *wrong)
    assert ended.returncode == 2
    assert not (tmp_path / "out").exists()
