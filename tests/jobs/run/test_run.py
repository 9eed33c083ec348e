"""Whole jobs on local files: their rows, their lists, and where they write."""

import os
from dataclasses import replace
from pathlib import Path

import pandas
import pytest

from handler.values.errors import LocationError, VeaError
from handler.values.limits import ImageLimits
from jobs.engines.base import InThisProcess
from jobs.output.ledger import LedgerError
from tests.jobs.run_files import REASONS, Broken, break_after, files_of, manifest_of


def test_every_row_of_the_list_comes_out_in_order(job, score):
    summary = score(job)
    frame = pandas.read_parquet(job.out)
    assert frame["position"].tolist() == list(range(7))
    assert frame["image"].tolist() == Path(job.image_list).read_text().split()
    assert frame["status"].tolist() == ["ok", "failed", "ok", "failed", "ok", "ok", "ok"]
    assert frame["stage"].dropna().tolist() == ["decode", "fetch"]
    assert frame["reason_kind"].dropna().tolist() == ["not-an-image", "missing"]
    assert set(frame["run_id"]) == {summary.run_id}
    assert summary.reasons == REASONS
    assert (summary.rows, summary.ok, summary.failed, summary.poison) == (7, 5, 2, 0)
    assert (summary.parts, summary.parts_skipped, summary.files) == (3, 0, 1)
    assert (summary.complete, summary.scored) == (True, 7)
    assert 0 < summary.busy_fraction <= 1


def test_rows_say_what_the_predictor_says(job, score, predictor, jpeg):
    score(job)
    frame = pandas.read_parquet(job.out).set_index("position")
    for position, photo in ((0, 0), (2, 1), (6, 0)):
        row, expected = frame.loc[position], predictor.predict([jpeg(photo)])[0]
        assert row["emotion"] == expected.emotion
        assert row["p_positive"] == pytest.approx(expected.p_positive, abs=1e-4)
        for emotion, probability in expected.probabilities.items():
            assert row[f"p_{emotion}"] == pytest.approx(probability, abs=1e-4)
        assert (row["width"], row["height"]) == (96, 72)
    assert set(frame["model_digest"]) == {predictor.model.digest}


def test_foreign_parquet_files_are_left_alone(job, score, predictor):
    Path(job.out).mkdir()
    Path(job.out, "mine.parquet").write_bytes(b"precious")
    with pytest.raises(LedgerError, match=r"such as mine\.parquet: choose another"):
        score(job)
    assert predictor.loads == 0


def test_columns_of_the_list_pass_through(job, score, photos):
    (photos / "list.csv").write_text("sku,image\n007,0.jpg\n,none.jpg\n")
    score(replace(job, image_list=str(photos / "list.csv")))
    frame = pandas.read_parquet(job.out)
    assert frame["sku"].tolist() == ["007", ""]


def test_a_column_with_one_of_our_names_is_refused_before_anything_is_written(job, score, photos):
    (photos / "list.csv").write_text("image,status\n0.jpg,new\n")
    with pytest.raises(VeaError, match=r"'status'.*--keep"):
        score(replace(job, image_list=str(photos / "list.csv")))
    assert files_of(job.out) == {}


def test_columns_can_be_refused_before_anything_is_claimed(job, score, photos):
    def refuse(columns, images):
        assert "position" in columns.names
        assert images.rows == 7
        raise VeaError("not these")

    with pytest.raises(VeaError, match="not these"):
        score(job, accept=refuse)
    assert not list(Path(job.out).iterdir())


def test_a_folder_is_as_good_as_a_list_and_is_listed_once(job, score, photos, jpeg):
    job = replace(job, image_list=f"{photos}/")
    with pytest.raises(Broken):
        score(job, on_progress=break_after(4))
    (photos / "00.jpg").write_bytes(jpeg(9))
    summary = score(job)
    assert summary.rows == 5
    assert [Path(image).name for image in pandas.read_parquet(job.out)["image"]] == [
        *(f"{i}.jpg" for i in range(4)),
        "notes.jpg",
    ]
    assert score(job).scored == 0


def test_an_empty_list_gives_a_finished_run_without_rows(job, score, photos):
    (photos / "list.txt").write_text("# nothing today\n")
    summary = score(job)
    assert (summary.rows, summary.failure_rate, summary.images_per_second) == (0, 0.0, 0.0)
    assert summary.complete
    frame = pandas.read_parquet(job.out)
    assert len(frame) == 0
    assert "p_awe" in frame.columns


def test_odd_locations_are_rows(job, score, photos):
    (photos / "big.jpg").write_bytes(b"\xff" * (ImageLimits().max_bytes + 1))
    (photos / "folder").mkdir()
    (photos / "list.csv").write_text(
        'image\ngopher://example.org/a.jpg\ns3://\nfolder\nbig.jpg\n""\n0.jpg/x\nnul\0.jpg\n1.jpg\n'
    )
    score(replace(job, image_list=str(photos / "list.csv")))
    frame = pandas.read_parquet(job.out)
    assert frame["reason_kind"].tolist()[:7] == [
        "bad-location",
        "bad-location",
        "bad-location",
        "too-large",
        "bad-location",
        "missing",
        "unreadable",
    ]
    assert frame["status"].tolist()[7] == "ok"


def test_an_unusable_output_folder_is_one_line(job, score, photos):
    with pytest.raises(VeaError, match="cannot use the folder") as caught:
        score(replace(job, out=str(photos / "0.jpg")))
    assert "\n" not in str(caught.value)


def test_workers_in_another_folder_write_to_the_same_place(job, score, monkeypatch):
    seen = []

    class Elsewhere(InThisProcess):
        def run(self, todo, worker, **options):
            seen.append((worker.job.out, worker.source.path))
            return super().run(todo, worker, **options)

    monkeypatch.chdir(job.model.parent)
    relative = replace(job, out=os.path.relpath(job.out), model=Path(job.model.name))
    score(relative, engine=Elsewhere())
    assert seen == [(job.out, job.model)]


@pytest.mark.parametrize("place", ["s3a://results/x", "abfss://b/x", "file:///x", "S3://b/x"])
@pytest.mark.parametrize("name", ["out", "image_list"])
def test_a_place_that_is_not_understood_becomes_no_folder(job, score, monkeypatch, place, name):
    folder = job.model.parent
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    with pytest.raises(LocationError, match="is not supported here; expected a path, s3://"):
        score(replace(job, **{name: place}))
    assert sorted(folder.rglob("*")) == before


def test_a_missing_archive_is_told_before_anything_is_written(job, score, tmp_path):
    with pytest.raises(VeaError, match="there is no archive at"):
        score(replace(job, model=tmp_path / "none.mar"))
    assert not Path(job.out).exists()


def test_the_manifest_says_how_this_start_went(job, score):
    summary = score(job)
    facts = manifest_of(job.out)["facts"]
    assert facts["images"] == 7
    assert facts["images_per_second"] > 0
    assert facts["started"].endswith("+00:00")
    assert facts["busy_share"] == pytest.approx(summary.busy_fraction, abs=1e-3)
