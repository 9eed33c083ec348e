"""Whole jobs on files that hold their pictures, with the shipped model, in this process."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pandas
import pyarrow as pa
import pyarrow.parquet
import pytest
from containers import forms_of, parquet_of, tar_of

from jobs.output.ledger import LedgerError
from jobs.values.job import ScoreJob
from tests.jobs.run_files import Broken, break_after, files_of, manifest_of

FORMS = ["bytes.parquet", "hugging-face.parquet", "photos.tar", "photos.tar.gz", "photos.tar.zst"]
OURS = ["image", "run_id", "image_path", "json", "txt"]


@pytest.fixture
def photos(jpeg):
    """Encoded images, of which one is none."""
    made = [jpeg(seed) for seed in range(11)]
    made[4] = b"not a photo"
    return made


@pytest.fixture
def folder(tmp_path, photos):
    """The photos as a list of files, and in every file that holds them."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, photo in enumerate(photos):
        (folder / f"{number}.jpg").write_bytes(photo)
    (folder / "list.txt").write_text("".join(f"{n}.jpg\n" for n in range(len(photos))))
    for name, data in forms_of(photos).items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def job(folder, archive, tmp_path):
    def job(name, **options):
        out = str(tmp_path / "out" / name)
        return ScoreJob(str(folder / name), out, archive, chunk_size=4, **options)

    return job


def rows_of(job):
    return pandas.read_parquet(job.out)


@pytest.mark.parametrize("name", FORMS)
def test_rows_are_those_of_a_list_but_for_the_location(job, score, folder, name):
    listed, held = job("list.txt"), job(name)
    score(listed)
    summary = score(held)
    expected, found = rows_of(listed), rows_of(held)
    assert (summary.rows, summary.reasons) == (11, {"decode/not-an-image": 1})
    pandas.testing.assert_frame_equal(
        found.drop(columns=[c for c in OURS if c in found]),
        expected.drop(columns=["image", "run_id"]),
    )
    place = f"{folder}/{name}#"
    ends = [f"{n:06d}.jpg" if ".tar" in name else f"row={n}" for n in range(11)]
    assert found["image"].tolist() == [place + end for end in ends]
    if ".tar" in name:
        assert found["txt"].tolist() == [f"photo no. {n}" for n in range(11)]
        assert json.loads(found["json"][7])["n"] == 7
    if name.startswith("hugging"):
        assert found["image_path"].tolist() == [f"{n}.jpg" for n in range(11)]
    assert not any(
        pa.types.is_binary(field.type)
        for field in pyarrow.parquet.read_schema(Path(held.out, "images-00000.parquet"))
    )


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("done", [3, 7])
def test_an_interrupted_run_continues_after_its_last_part(job, score, predictor, name, done):
    whole = replace(job(name), out=job(name).out + "-whole")
    score(whole)

    with pytest.raises(Broken):
        score(job(name), on_progress=break_after(done))
    parts = len(list(Path(job(name).out, "_run").glob("part-*")))
    before = predictor.scored
    summary = score(job(name))
    assert summary.parts_skipped == parts
    assert predictor.scored - before == 11 - 4 * parts
    assert files_of(job(name).out) == files_of(whole.out)


def test_another_version_of_an_archive_is_another_run(job, score, folder):
    with pytest.raises(Broken):
        score(job("photos.tar", keep=[]), on_progress=_break)
    (folder / "photos.tar").write_bytes(tar_of({"a.jpg": b"a"}))
    with pytest.raises(LedgerError, match="the list of images differs"):
        score(job("photos.tar", keep=[]))


@pytest.mark.parametrize("name", ["photos.tar", "photos.tar.gz"])
def test_a_later_attempt_does_not_read_the_archives_through(job, score, folder, name):
    """Only a member that no chunk needs is damaged after the first attempt."""
    with pytest.raises(Broken):
        score(job(name), on_progress=_break)
    kept = list(Path(job(name).out, "_run").glob("index-*"))
    assert len(kept) == 1
    before, stat = kept[0].stat().st_mtime_ns, (folder / name).stat()
    # The same version with another content: whoever read it through would refuse it.
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:-100] + b"x" * 100)
    os.utime(folder / name, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(Broken):
        score(job(name), on_progress=_break)
    assert kept[0].stat().st_mtime_ns == before
    if name == "photos.tar":
        assert score(job(name)).rows == 11
        assert not list(Path(job(name).out, "_run").glob("index-*"))


def test_an_index_that_is_damaged_is_made_again(job, score):
    with pytest.raises(Broken):
        score(job("photos.tar"), on_progress=_break)
    (kept,) = Path(job("photos.tar").out, "_run").glob("index-*")
    kept.write_bytes(b"x")
    assert score(job("photos.tar")).rows == 11


def _break(now):
    if now.done:
        raise Broken


def test_encoded_pictures_pass_through_if_they_are_asked_for(job, score, folder, photos):
    score(job("photos.tar", keep=["txt", "jpg"]))
    found = rows_of(job("photos.tar"))
    assert found["jpg"].tolist() == photos
    assert found["txt"][3] == "photo no. 3"
    table = pa.table({"jpg": pa.array(photos), "id": list(range(11))})
    (folder / "more.parquet").write_bytes(parquet_of(table))
    score(job("more.parquet", keep=["jpg"]))
    assert rows_of(job("more.parquet"))["jpg"].tolist() == photos


def test_what_is_left_out_of_archives_is_told(job, score, folder, photos):
    (folder / "more.tar").write_bytes(
        tar_of([("a.jpg", photos[0]), ("a.txt", b"\xff"), ("a.npy", b""), (".hidden.jpg", b"")])
    )
    said = []
    summary = score(job("more.tar"), warn=said.append)
    assert summary.left_out == {"hidden": 1, "not-an-image": 1}
    assert any("1 texts beside pictures" in line for line in said)
    assert any("2 files left out" in line for line in said)
    facts = manifest_of(job("more.tar").out)["facts"]
    assert facts["left_out"] == {"hidden": 1, "not-an-image": 1}


def test_nights_of_archives_are_one_table(job, score, folder, photos, tmp_path):
    """The first night's columns hold for a night that lacks one and has another."""
    (folder / "1.tar").write_bytes(tar_of({"a.jpg": photos[0], "a.txt": b"words", "a.cls": b"1"}))
    (folder / "2.tar").write_bytes(tar_of({"a.jpg": photos[0], "a.json": b"{}", "a.cls": b"2"}))
    said = []
    for night in ("1", "2"):
        out = str(tmp_path / "out" / f"dt=2026-11-2{night}")
        score(replace(job(f"{night}.tar"), out=out), warn=said.append)
    found = pandas.read_parquet(tmp_path / "out")
    assert found["txt"].fillna("none").tolist() == ["words", "none"]
    assert found["cls"].tolist() == ["1", "2"]
    assert "json" not in found
    assert any(line.startswith("left out of the result: json") for line in said)
