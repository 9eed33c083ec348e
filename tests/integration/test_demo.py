"""`vea demo`, whole: a real S3 server, a real TorchServe, the shipped archive."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import psutil
import pytest

from tests.program import vea

REPOSITORY = Path(__file__).resolve().parents[2]
MARK = "VEA_TEST_STARTED_BY"  # what a process starts inherits it


def started_by(process):
    """The mark of a living process, if it has one."""
    try:
        dead = process.status() == psutil.STATUS_ZOMBIE
        return None if dead else process.environ().get(MARK)
    except psutil.Error:
        return None


@pytest.mark.integration
def test_the_demo_scores_serves_agrees_and_leaves_nothing_running(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "vea.main", "demo", "--to", str(tmp_path / "out")],
        cwd=REPOSITORY,
        env={**os.environ, MARK: str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "parquet and TorchServe agree" in done.stdout

    rows = pd.read_parquet(tmp_path / "out" / "predictions")
    photos = [p for p in (REPOSITORY / "vea" / "photos").iterdir() if p.suffix != ".md"]
    assert len(rows) == len(photos)
    failed = rows[rows["status"] == "failed"]
    assert [image.rsplit("/", 1)[-1] for image in failed["image"]] == ["broken.jpg"]
    assert failed["stage"].tolist() == ["decode"]
    portraits = rows[rows["image"].str.contains("astronaut|grace_hopper")]
    assert (portraits["faces"] >= 1).all()

    page = (tmp_path / "out" / "index.html").read_text()
    for photo in photos:
        assert photo.name in page
    assert page.count("data:image/jpeg;base64,") == 2 * (len(photos) - 1)
    assert 'src="http' not in page, "the page needs nothing from elsewhere"

    left = [process for process in psutil.process_iter() if started_by(process) == str(tmp_path)]
    assert left == []


@pytest.mark.integration
def test_the_demo_does_not_empty_a_folder_that_is_not_its_own(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    done = vea("demo", "--to", tmp_path, cwd=REPOSITORY)
    assert done.returncode == 1
    assert (tmp_path / "thesis.txt").exists()
