"""Whole jobs on local files, with the shipped model."""

import json
from pathlib import Path

import pandas
import pyarrow.dataset
import pytest

from handler.errors import VeaError
from handler.images import ImageLimits
from jobs.engine import ScoreJob, score_list
from jobs.ledger import LedgerError


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
        manifest=str(photos / "list.txt"), out=str(tmp_path / "out"), model=archive, chunk_size=3
    )


def parts_of(job):
    return {path.name: path.read_bytes() for path in Path(job.out).glob("*.parquet")}


def test_every_row_of_the_list_comes_out_in_order(job, predictor, jpeg):
    summary = score_list(job, load=predictor.load)
    frame = pandas.read_parquet(job.out)
    assert frame["position"].tolist() == list(range(7))
    assert frame["image"].tolist() == Path(job.manifest).read_text().split()
    assert frame["status"].tolist() == ["ok", "failed", "ok", "failed", "ok", "ok", "ok"]
    assert frame["stage"].dropna().tolist() == ["decode", "fetch"]
    assert frame["reason_kind"].dropna().tolist() == ["not-an-image", "missing"]
    assert summary.reasons == {"decode/not-an-image": 1, "fetch/missing": 1}
    assert (summary.rows, summary.ok, summary.failed, summary.parts) == (7, 5, 2, 3)
    assert sorted(parts_of(job)) == [f"part-{i:05d}.parquet" for i in range(3)]


def test_rows_say_what_the_predictor_says(job, predictor, jpeg):
    score_list(job, load=predictor.load)
    frame = pandas.read_parquet(job.out).set_index("position")
    for position, photo in ((0, 0), (2, 1), (6, 0)):
        row, expected = frame.loc[position], predictor.predict([jpeg(photo)])[0]
        assert row["emotion"] == expected.emotion
        assert row["polarity"] == expected.polarity
        assert row["p_positive"] == pytest.approx(expected.p_positive, abs=1e-4)
        for emotion, probability in expected.probabilities.items():
            assert row[f"p_{emotion}"] == pytest.approx(probability, abs=1e-4)
        assert (row["width"], row["height"]) == (96, 72)
        assert row["faces"] == expected.face_count
    assert set(frame["model_digest"]) == {predictor.model.digest}
    assert set(frame["run_id"]) == {json.loads(Path(job.out, "_run.json").read_text())["run_id"]}


def test_all_parts_have_the_same_types(job, predictor, photos):
    # The middle part has nothing but failures: its columns must not become untyped.
    (photos / "list.txt").write_text("0.jpg\n" * 3 + "none.jpg\n" * 3 + "1.jpg\n")
    score_list(job, load=predictor.load)
    dataset = pyarrow.dataset.dataset(job.out, format="parquet")
    schemas = [fragment.physical_schema for fragment in dataset.get_fragments()]
    assert len(schemas) == 3
    assert all(schema.equals(schemas[0]) for schema in schemas)
    assert {str(schemas[0].field(name).type) for name in ("p_awe", "face_x1")} == {"float"}
    assert dataset.count_rows() == 7


def test_a_second_start_skips_everything_and_changes_nothing(job, predictor):
    first = score_list(job, load=predictor.load)
    before, scored = parts_of(job), predictor.scored
    manifest = Path(job.out, "_manifest.json").read_bytes()
    second = score_list(job, load=predictor.load)
    assert predictor.scored == scored
    assert predictor.loads == 1
    assert parts_of(job) == before
    assert Path(job.out, "_manifest.json").read_bytes() == manifest
    assert (second.parts_skipped, second.scored, second.rows) == (3, 0, first.rows)
    assert second.reasons == first.reasons


def test_an_interrupted_run_continues_after_its_last_part(job, predictor):
    score_list(job, load=predictor.load)
    before, scored = parts_of(job), predictor.scored
    for name in ("part-00001.parquet", "_manifest.json", "_SUCCESS"):
        Path(job.out, name).unlink()
    summary = score_list(job, load=predictor.load)
    # Of its three images one is missing.
    assert predictor.scored - scored == 2
    assert (summary.parts_skipped, summary.scored) == (2, 3)
    assert parts_of(job) == before


def test_the_same_run_elsewhere_writes_the_same_bytes(job, predictor, tmp_path):
    other = ScoreJob(
        manifest=job.manifest,
        out=str(tmp_path / "other"),
        model=job.model,
        chunk_size=3,
        fetch_threads=1,
    )
    score_list(job, load=predictor.load)
    score_list(other, load=predictor.load)
    assert parts_of(job) == parts_of(other)


@pytest.mark.parametrize("change", ["list", "--chunk-size"])
def test_two_runs_are_never_mixed_in_one_folder(job, predictor, photos, change):
    score_list(job, load=predictor.load)
    before = parts_of(job)
    size = 3
    if change == "list":
        (photos / "list.txt").write_text("0.jpg\n")
    else:
        size = 4
    other = ScoreJob(manifest=job.manifest, out=job.out, model=job.model, chunk_size=size)
    with pytest.raises(LedgerError, match=f"another run: .*{change}.* differs; choose another"):
        score_list(other, load=predictor.load)
    assert parts_of(job) == before


def test_foreign_parquet_files_are_left_alone(job, predictor):
    Path(job.out).mkdir()
    Path(job.out, "mine.parquet").write_bytes(b"precious")
    with pytest.raises(LedgerError, match=r"such as mine\.parquet: choose another"):
        score_list(job, load=predictor.load)
    assert predictor.loads == 0


def test_a_damaged_part_is_not_taken_for_done(job, predictor):
    score_list(job, load=predictor.load)
    Path(job.out, "part-00001.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(LedgerError, match=r"part-00001\.parquet .* delete it and start again"):
        score_list(job, load=predictor.load)


def test_success_comes_last(job, predictor):
    class Broken(Exception):
        pass

    def interrupted(now):
        if now.done >= 6:
            raise Broken

    with pytest.raises(Broken):
        score_list(job, load=predictor.load, on_progress=interrupted)
    assert sorted(p.name for p in Path(job.out).iterdir()) == ["_run.json", "part-00000.parquet"]


def test_an_empty_list_gives_a_finished_run_without_rows(job, predictor, photos):
    (photos / "list.txt").write_text("# nothing today\n")
    summary = score_list(job, load=predictor.load)
    assert (summary.rows, summary.failed_share, summary.images_per_second) == (0, 0.0, 0.0)
    assert Path(job.out, "_SUCCESS").exists()
    assert json.loads(Path(job.out, "_manifest.json").read_text())["rows"] == 0
    frame = pandas.read_parquet(job.out)
    assert len(frame) == 0
    assert "p_awe" in frame.columns


def test_the_manifest_adds_up(job, predictor):
    score_list(job, load=predictor.load)
    manifest = json.loads(Path(job.out, "_manifest.json").read_text())
    sizes = {name: len(data) for name, data in parts_of(job).items()}
    assert {part["name"]: part["bytes"] for part in manifest["parts"]} == sizes
    assert manifest["bytes"] == sum(sizes.values())
    assert [part["rows"] for part in manifest["parts"]] == [3, 3, 1]
    assert manifest["status"] == {"ok": 5, "failed": 2}
    assert manifest["model"]["digest"] == predictor.model.digest
    assert manifest["settings"]["chunk_size"] == 3


def test_progress_ends_at_the_length_of_the_list(job, predictor):
    seen = []
    score_list(job, load=predictor.load, on_progress=seen.append)
    assert (seen[-1].done, seen[-1].total, seen[-1].failed) == (7, 7, 2)
    assert [now.done for now in seen] == sorted(now.done for now in seen)
    again = []
    score_list(job, load=predictor.load, on_progress=again.append)
    assert again[-1] == seen[-1]


def test_odd_locations_are_rows(job, predictor, photos):
    (photos / "big.jpg").write_bytes(b"\xff" * (ImageLimits().max_bytes + 1))
    (photos / "folder").mkdir()
    (photos / "list.csv").write_text(
        'image\nhttps://example.org/a.jpg\ns3://\nfolder\nbig.jpg\n""\n0.jpg/x\nnul\0.jpg\n1.jpg\n'
    )
    odd = ScoreJob(manifest=str(photos / "list.csv"), out=job.out, model=job.model)
    score_list(odd, load=predictor.load)
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


def test_an_unusable_output_folder_is_one_line(job, predictor, photos):
    bad = ScoreJob(manifest=job.manifest, out=str(photos / "0.jpg"), model=job.model)
    with pytest.raises(VeaError, match="cannot be made a folder") as caught:
        score_list(bad, load=predictor.load)
    assert "\n" not in str(caught.value)


def test_a_missing_archive_is_told_before_anything_is_written(job, predictor, tmp_path):
    bad = ScoreJob(manifest=job.manifest, out=job.out, model=tmp_path / "none.mar")
    with pytest.raises(VeaError, match="there is no archive at"):
        score_list(bad, load=predictor.load)
    assert not Path(job.out).exists()
