"""`vea score` as a program of its own: what it prints where, and its exit codes."""

import json
import os
import signal
import subprocess
import sys
import time

import pandas
import pytest
from PIL import Image
from typer.testing import CliRunner

from handler.values.errors import VeaError
from tests.program import vea
from tests.shipped import ARCHIVE
from vea.main import build_app

pytestmark = pytest.mark.integration

# Without the environment's width, tables and errors would be cut differently everywhere.
ENVIRONMENT = {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}


def command(*arguments):
    return [sys.executable, "-m", "vea.main", "score", *map(str, arguments)]


@pytest.fixture
def listed(tmp_path):
    Image.new("RGB", (32, 24), "orange").save(tmp_path / "a.jpg")
    (tmp_path / "list.csv").write_text("id,image,tag\n007,a.jpg,x\n008,b.jpg,y\n")
    return tmp_path / "list.csv"


def test_processes_score_and_every_option_reaches_them(listed, tmp_path):
    metrics = tmp_path / "vea.prom"
    listed.rename(tmp_path / "2026.csv")
    arguments = (
        *(str(listed).replace("list", "{yyyy}"), "--date", "2026-11-23"),
        *("--out", tmp_path / "out" / "dt={date}" / "model={model_name}-{model_version}"),
        *("--model", ARCHIVE, "--keep", "id", "--boxes", "--chunk-size", "1", "--workers", "2"),
        *("--metrics-file", metrics, "--json"),
    )
    ended = subprocess.run(
        command(*arguments), capture_output=True, text=True, env=ENVIRONMENT, check=False
    )
    assert ended.returncode == 0, ended.stderr
    summary = json.loads(ended.stdout)
    assert (summary["rows"], summary["ok"], summary["failed"]) == (2, 1, 1)
    out = tmp_path / "out" / "dt=2026-11-23" / "model=vea-lite-3.1"
    assert summary["out"] == str(out)
    frame = pandas.read_parquet(out / "images-00000.parquet")
    assert frame["id"].tolist() == ["007", "008"]
    assert "tag" not in frame.columns
    assert len(frame["boxes"][0]) == frame["objects"][0] > 0
    # Standard error is no terminal here, and gets lines for a log.
    last = json.loads(ended.stderr.splitlines()[-1])
    assert (last["done"], last["total"], last["reasons"]) == (2, 2, {"fetch/missing": 1})
    text = metrics.read_text()
    assert "vea_score_succeeded 1.0" in text
    assert f'run_id="{summary["run_id"]}"' in text


def test_what_the_user_can_mend_is_one_line(tmp_path):
    ended = vea("score", tmp_path / "none.txt", "--out", tmp_path / "out", "--model", ARCHIVE)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr == f"vea: there is no list of images at {tmp_path / 'none.txt'}\n"


def test_too_many_failures_exit_with_3_and_json_says_how_far_it_came(listed, tmp_path):
    metrics = tmp_path / "vea.prom"
    ended = vea(
        *("score", listed, "--out", tmp_path / "out"),
        *("--model", ARCHIVE, "--workers", "0", "--json"),
        *("--max-error-rate", "0.4", "--metrics-file", metrics),
    )
    assert ended.returncode == 3
    said = json.loads(ended.stdout)
    assert (said["complete"], said["done"], said["failed"]) == (False, 2, 1)
    assert "--max-error-rate 0.4" in said["error"]
    assert ended.stderr.splitlines()[-1] == f"vea: {said['error']}"
    assert "vea_score_succeeded 0.0" in metrics.read_text()
    assert not (tmp_path / "out" / "_SUCCESS").exists()


def test_a_stopped_command_exits_with_143_and_goes_on_when_started_again(tmp_path):
    Image.new("RGB", (800, 600), "orange").save(tmp_path / "a.jpg")
    (tmp_path / "list.txt").write_text("a.jpg\n" * 40)
    options = [str(tmp_path / "list.txt"), "--out", str(tmp_path / "out"), "--chunk-size", "2"]
    options += ["--model", str(ARCHIVE)]
    process = subprocess.Popen(
        command(*options, "--workers", "1"),
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    end = time.monotonic() + 120
    while not any((tmp_path / "out" / "_run").glob("part-*")):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 143
    assert b"of 40 images are done; start the same command again to continue" in said
    kept = len(list((tmp_path / "out" / "_run").glob("part-*")))
    ended = CliRunner().invoke(build_app(), ["score", *options, "--workers", "0", "--json"])
    assert ended.exit_code == 0, ended.stderr
    summary = json.loads(ended.stdout)
    assert (summary["rows"], summary["parts_skipped"]) == (40, kept)
    assert summary["scored"] == 40 - 2 * kept


@pytest.mark.parametrize(
    "wrong",
    [
        ["--chunk-size", "0"],
        ["--max-error-rate", "2"],
        ["--shard", "3/3"],
        ["--fetcher", "wget"],
        ["--gpus-per-worker", "1"],
        ["--ray", "auto", "--workers", "0"],
        ["--what"],
    ],
)
def test_wrong_usage_exits_with_2(listed, tmp_path, wrong):
    out = tmp_path / "out"
    arguments = ["score", str(listed), "--out", str(out), "--model", str(ARCHIVE), *wrong]
    ended = CliRunner().invoke(build_app(), arguments, env={"COLUMNS": "200"})
    assert ended.exit_code == 2
    assert wrong[0] in ended.stderr
    assert not (tmp_path / "out").exists()


def test_a_placeholder_that_nobody_fills_is_one_line(listed, tmp_path):
    arguments = [str(listed), "--out", str(tmp_path / "{date}"), "--model", str(ARCHIVE)]
    ended = CliRunner().invoke(build_app(), ["score", *arguments])
    assert isinstance(ended.exception, VeaError)
    assert "{date}" in str(ended.exception)
    assert list(tmp_path.glob("*date*")) == []
