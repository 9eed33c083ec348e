"""The quickstart of the README and the tutorials work as they are written."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas
import pytest
from pages import REPOSITORY, fenced

from handler.values.emotions import MIKELS
from tests.conftest import PhotoFactory

pytestmark = pytest.mark.integration
README = (REPOSITORY / "README.md").read_text()
FIRST = (REPOSITORY / "docs" / "tutorials" / "first-predictions.md").read_text()
NIGHTLY = (REPOSITORY / "docs" / "tutorials" / "nightly-scoring.md").read_text()
TRAINING = (REPOSITORY / "docs" / "tutorials" / "train-your-own.md").read_text()
Run = Callable[[str], subprocess.CompletedProcess[str]]


def block(text: str, words: str) -> str:
    """The fenced block that holds these words."""
    [found] = [content for _, content in fenced(text) if words in content]
    return found


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a block in a shell, in a folder with what a checkout has, with a home of its own."""
    for name in ("vea", "model_store"):
        (tmp_path / name).mkdir()
    (tmp_path / "vea" / "photos").symlink_to(REPOSITORY / "vea" / "photos")
    for archive in (REPOSITORY / "model_store").glob("*.mar"):
        (tmp_path / "model_store" / archive.name).symlink_to(archive)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "HOME": str(tmp_path / "home"),
    }
    (tmp_path / "home").mkdir()

    def bash(script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-e", "-c", script],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    return bash


def test_predict_shows_what_the_readme_shows(run: Run) -> None:
    prompt, _, shown = block(README, "$ vea predict").partition("\n")
    done = run(prompt.removeprefix("$ "))
    assert done.returncode == 1  # broken.jpg is refused
    for line in re.findall(r"│ (\w+\.\w+ .*?) │", shown):
        assert " ".join(line.split()) in " ".join(done.stdout.split()), done.stdout + done.stderr


def test_the_python_of_the_readme_and_of_the_tutorial_predicts(run: Run) -> None:
    done = run(f"python - <<'END'\n{block(README, 'from vea import')}END")
    assert done.stdout.startswith("contentment {'amusement'"), done.stderr
    done = run(f"python - <<'END'\n{block(FIRST, 'from vea import')}END")
    assert done.stdout.splitlines()[0] == "cat.webp contentment", done.stderr
    assert "damaged" in done.stdout.splitlines()[1]


def test_a_list_is_scored_and_reported(run: Run, tmp_path: Path) -> None:
    done = run(block(README, "vea report results"))
    assert done.returncode == 0, done.stderr
    assert len(pandas.read_parquet(tmp_path / "results")) == 12
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_a_server_is_started_asked_and_stopped(run: Run) -> None:
    for port in (8080, 8081, 8082):
        with socket.socket() as taken:
            if taken.connect_ex(("127.0.0.1", port)) == 0:
                pytest.skip(f"port {port}, which the README names, is taken")
    done = run(block(README, "vea serve --detach"))
    run("vea serve --stop || true")
    assert done.returncode == 0, done.stderr
    assert '"emotion": "contentment"' in done.stdout


def test_the_tutorial_of_a_nightly_run_works(run: Run, tmp_path: Path) -> None:
    parts = ('Path("list.csv")', "--out results --model", "--chunk-size")
    steps = [block(NIGHTLY, words) for words in parts]
    assert run(steps[0]).returncode == 0
    first = run(steps[1])
    assert first.returncode == 0, first.stderr
    for _ in range(2):  # the second finds that nothing is left to do
        again = run(steps[2])
        assert again.returncode == 0, again.stderr
    assert "nothing left to do" in again.stdout
    read = run(f"python - <<'END'\n{block(NIGHTLY, 'read_parquet')}END")
    assert read.returncode == 0, read.stderr
    assert "decode" in read.stdout or "damaged" in read.stdout
    assert pandas.read_parquet(tmp_path / "results")["post_id"].tolist() == [
        str(number) for number in range(12)
    ]


@pytest.mark.long
def test_the_tutorial_of_training_works(run: Run, tmp_path: Path, photo: PhotoFactory) -> None:
    for emotion in MIKELS.labels:
        folder = tmp_path / "my-photos" / emotion
        folder.mkdir(parents=True)
        for number in range(12):
            photo(1000 * MIKELS.labels.index(emotion) + number).save(folder / f"{number}.jpg")
    photo(0).save(tmp_path / "photo.jpg")
    scripts = [content for language, content in fenced(TRAINING) if language == "sh"]
    assert len(scripts) == 6
    for script in scripts:
        done = run(script)
        assert done.returncode == 0, script + done.stdout + done.stderr
    assert (tmp_path / "my-models" / "my-model-1.0.mar").is_file()
    assert "photo.jpg" in done.stdout
