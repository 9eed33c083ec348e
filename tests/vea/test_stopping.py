"""Commands that train, stopped by a signal: no success, one line, and nothing to mistake."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.program import vea
from vea.stopping import Stopped, stoppable

RECIPE = """
name: tiny
init: random
selector: {size: 64, objects: {source: grid, backbone: resnet18, size: 64, count: 4}}
network:
  global_backbone: null
  object_features: 512
  semantic: {hidden: 8, attention: 8, steps: 2}
  expression_width: null
training: {epochs: 100000, batch_size: 4, crop: 64}
"""
FACES = "{kind: expression, name: faces, width: 8, epochs: 100000, batch_size: 16}"


@pytest.fixture(scope="module")
def data(tmp_path_factory, photo):
    root = tmp_path_factory.mktemp("data")
    for emotion, level in (("awe", 200), ("fear", 20)):
        (root / emotion).mkdir()
        for i in range(12):
            pixels = np.asarray(photo(i + level, (80, 64))) // 6 + level
            Image.fromarray(pixels).save(root / emotion / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    root = tmp_path_factory.mktemp("fer2013")
    rng = np.random.default_rng(0)
    for usage in ("Training", "PublicTest"):
        for expression in ("happy", "sad"):
            (root / usage / expression).mkdir(parents=True)
            for i in range(16):
                face = rng.integers(0, 255, (48, 48), dtype=np.uint8)
                Image.fromarray(face).save(root / usage / expression / f"{i}.png")
    return root


def stopped(number: int, until: str, folder: Path, *arguments: object) -> subprocess.Popen[str]:
    """A command that gets a signal as soon as it has written a file."""
    command = [sys.executable, "-m", "vea", *map(str, arguments)]
    cache = {"XDG_CACHE_HOME": str(folder / "cache")}
    with subprocess.Popen(
        command, cwd=folder, text=True, stderr=subprocess.PIPE, env={**os.environ, **cache}
    ) as process:
        while process.poll() is None and not list(folder.glob(until)):
            time.sleep(0.05)
        process.send_signal(number)
        process.said = process.stderr.read()
    return process


@pytest.mark.integration
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_training_that_is_stopped_is_no_success_and_leaves_no_model(data, tmp_path, number, code):
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    old = tmp_path / "runs" / "tiny" / "model"
    old.mkdir(parents=True)
    (old / "weights.safetensors").write_text("of an earlier run")
    words = ("train", "--recipe", "tiny.yaml", "--data", data, "--force")
    ended = stopped(number, "runs/tiny/last.ckpt", tmp_path, *words)
    assert ended.returncode == code, ended.said
    assert ended.said.splitlines()[-1].endswith("the run goes on with --resume")
    assert not old.exists()
    assert (tmp_path / "runs" / "tiny" / "last.ckpt").is_file()


@pytest.mark.integration
def test_a_pre_training_that_is_stopped_is_no_success(faces, tmp_path):
    (tmp_path / "faces.yaml").write_text(FACES)
    words = ("train", "--recipe", "faces.yaml", "--data", faces)
    ended = stopped(signal.SIGTERM, "runs/faces/last.ckpt", tmp_path, *words)
    assert ended.returncode == 143, ended.said
    assert ended.said.splitlines()[-1].endswith("the run goes on with --resume")


@pytest.mark.long
@pytest.mark.integration
def test_a_cross_validation_of_the_network_that_is_stopped_is_no_success(data, tmp_path):
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    words = ("cross-validate", "--recipe", "tiny.yaml", "--data", data, "--learner", "network")
    checkpoint = "runs/cross-tiny/training-*/run/last.ckpt"
    ended = stopped(signal.SIGTERM, checkpoint, tmp_path, *words, "--folds", 2)
    assert ended.returncode == 143, ended.said
    assert "nothing was measured" in ended.said.splitlines()[-1]
    left = {path.name for path in (tmp_path / "runs" / "cross-tiny").iterdir()}
    assert left == {"recipe.json"}


@stoppable("it goes on")
def deaf_until_stopped(number: int) -> None:
    """Catches whatever libraries catch."""
    try:
        os.kill(os.getpid(), number)
        time.sleep(5)
    except (Exception, KeyboardInterrupt, SystemExit):
        pytest.fail("the end was caught")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_catches_errors_and_interrupts_does_not_catch_the_end(number):
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as caught:
        deaf_until_stopped(number)
    assert str(caught.value) == f"stopped by {signal.Signals(number).name}: it goes on"
    assert caught.value.exit_code == 128 + number
    assert signal.getsignal(number) is before


def test_a_command_that_was_not_stopped_leaves_the_signals_as_they_were():
    before = signal.getsignal(signal.SIGTERM)
    with stoppable("it goes on"):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


@stoppable("it goes on")
def slow_to_end() -> None:
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
    except Stopped:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)


def test_a_second_signal_has_its_usual_effect():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            slow_to_end()
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "--data", "photos", "--run", "s3://bucket/run"),
        ("train", "--data", "photos", "--cache", "s3a://bucket/cache"),
        ("train", "--data", "photos", "--soft-labels", "gs://bucket/soft.parquet"),
        ("evaluate", "x.mar", "--data", "photos", "--report", "s3://bucket/report"),
        ("evaluate", "x.mar", "--data", "photos", "--json", "s3://bucket/figures.json"),
        ("evaluate", "https://models.example/x.mar", "--data", "photos"),
        ("cross-validate", "--data", "hdfs://photos"),
        ("package", "runs/lite/model", "--version", "1", "--to", "s3://bucket/store"),
        ("import-weights", "x.pkl", "--to", "s3://bucket/weights"),
        ("data", "check", "s3://bucket/photos"),
        ("figures", "x.mar", "--data", "photos", "--out", "abfss://figures"),
    ],
)
def test_an_address_is_no_local_path(tmp_path, arguments):
    ended = vea(*arguments, cwd=tmp_path)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert "expected a path of this machine" in line
    assert list(tmp_path.iterdir()) == []
