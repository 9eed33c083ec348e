"""A list of seven rows, and the job over it."""

import pytest

from jobs.values.job import ScoreJob


@pytest.fixture
def photos(tmp_path, jpeg):
    """Seven rows: five photos (one of them twice), a text file and a missing one."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(4):
        (folder / f"{i}.jpg").write_bytes(jpeg(i))
    (folder / "notes.jpg").write_text("not a photo")
    (folder / "list.txt").write_text(
        f"0.jpg\nnotes.jpg\n1.jpg\nnone.jpg\n{folder}/2.jpg\n3.jpg\n0.jpg\n"
    )
    return folder


@pytest.fixture
def job(photos, archive, tmp_path):
    return ScoreJob(
        image_list=str(photos / "list.txt"), out=str(tmp_path / "out"), model=archive, chunk_size=3
    )
