"""Whole jobs on local files, with the shipped model, in this process."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pandas
import pytest

from handler.predictor import Predictor
from handler.values.errors import LocationError, VeaError
from handler.values.limits import ImageLimits
from jobs.engines.base import InThisProcess
from jobs.monitoring.counter import Stopped, TooManyFailed
from jobs.output.ledger import LedgerError
from jobs.run.driver import score_list
from jobs.storage.errors import ObjectUnavailable
from jobs.values.job import ScoreJob

REASONS = {"decode/not-an-image": 1, "fetch/missing": 1}


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


@pytest.fixture
def score(predictor):
    def run(job, **options):
        return score_list(job, load=predictor.load, **options)

    return run


class Broken(Exception):
    """Stands in for a crash."""


def break_after(done):
    def on_progress(now):
        if now.done >= done:
            raise Broken

    return on_progress


def files_of(job):
    """Everything in the output folder but the manifest, which tells of one start's speed."""
    found = [path for path in Path(job.out).rglob("*") if path.is_file()]
    return {
        str(path.relative_to(job.out)): path.read_bytes()
        for path in found
        if path.name != "_manifest.json"
    }


def manifest_of(job):
    return json.loads(Path(job.out, "_manifest.json").read_text())


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


def test_a_finished_run_is_told_of_without_the_model(job, score, predictor):
    first = score(job)
    before, manifest = files_of(job), manifest_of(job)
    seen = []
    second = score(job, on_progress=seen.append)
    assert predictor.loads == 1
    assert files_of(job) == before
    assert manifest_of(job) == manifest
    assert (second.parts, second.parts_skipped, second.scored) == (3, 3, 0)
    assert (second.rows, second.reasons, second.complete) == (first.rows, REASONS, True)
    assert (seen[-1].done, seen[-1].total, seen[-1].earlier) == (7, 7, 7)


@pytest.mark.parametrize("done", [1, 3, 6])
def test_an_interrupted_run_continues_after_its_last_part(job, score, predictor, tmp_path, done):
    whole = replace(job, out=str(tmp_path / "whole"))
    score(whole)
    with pytest.raises(Broken):
        score(job, on_progress=break_after(done))
    parts = len(list(Path(job.out, "_run").glob("part-*")))
    assert not Path(job.out, "_SUCCESS").exists()
    before = predictor.scored
    seen = []
    summary = score(job, on_progress=seen.append)
    assert summary.parts_skipped == parts
    assert summary.scored == 7 - 3 * parts
    assert predictor.scored - before <= summary.scored
    assert (seen[-1].done, seen[-1].earlier, seen[-1].reasons) == (7, 3 * parts, REASONS)
    assert files_of(job) == files_of(whole)


def test_the_same_run_elsewhere_writes_the_same_bytes(job, score, tmp_path):
    other = replace(job, out=str(tmp_path / "other"), fetch_threads=1)
    score(job)
    score(other)
    assert files_of(job) == files_of(other)


@pytest.mark.parametrize("change", ["list", "--chunk-size", "--boxes"])
def test_two_runs_are_never_mixed_in_one_folder(job, score, photos, change):
    score(job)
    before = files_of(job)
    if change == "list":
        (photos / "list.txt").write_text("0.jpg\n")
    changed = {"list": {}, "--chunk-size": {"chunk_size": 4}, "--boxes": {"boxes": True}}[change]
    with pytest.raises(LedgerError, match=f"another run: .*{change}.* differs; choose another"):
        score(replace(job, **changed))
    assert files_of(job) == before


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
    assert files_of(job) == {}


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
    facts = manifest_of(job)["facts"]
    assert facts["images"] == 7
    assert facts["images_per_second"] > 0
    assert facts["started"].endswith("+00:00")
    assert facts["busy_share"] == pytest.approx(summary.busy_fraction, abs=1e-3)


# Images that kill the process


class Finds:
    """Says of one image that it kills, then scores in this process, or crashes."""

    def __init__(self, position, *, crash=False):
        self.position = position
        self.crash = crash

    def run(self, todo, worker, *, on_images, on_poison, stop):
        def tasks():
            for task in todo:
                if self.position not in task.chunk.positions or self.position in task.skip:
                    yield task
                    continue
                on_poison(task.chunk, frozenset({self.position}))
                if self.crash:
                    raise Broken
                yield replace(task, skip=frozenset({self.position}))

        yield from InThisProcess().run(
            tasks(), worker, on_images=on_images, on_poison=on_poison, stop=stop
        )


def test_an_image_that_kills_has_a_row_that_says_so(job, score):
    summary = score(job, engine=Finds(4))
    assert (summary.poison, summary.rows) == (1, 7)
    row = pandas.read_parquet(job.out).loc[4]
    assert (row["status"], row["stage"], row["reason_kind"]) == ("failed", "predict", "killed")


def test_poison_that_one_start_has_found_is_not_touched_by_the_next(job, score):
    with pytest.raises(Broken):
        score(job, engine=Finds(4, crash=True))
    assert score(job).poison == 1


# Images that could not be reached


@pytest.fixture
def flaky(monkeypatch):
    """Images that cannot be reached the first time: ``flaky['3.jpg'] = 1``."""
    faults = {}
    from jobs.fetching.fetcher import Fetcher  # noqa: PLC0415

    fetch = Fetcher.fetch

    def unsteady(self, location):
        name = Path(location).name
        if faults.get(name, 0):
            faults[name] -= 1
            raise ObjectUnavailable("unreachable", "503 after 7 attempts")
        return fetch(self, location)

    monkeypatch.setattr(Fetcher, "fetch", unsteady)
    return faults


def test_images_that_could_not_be_reached_get_a_second_chance(job, score, flaky, tmp_path):
    calm = replace(job, out=str(tmp_path / "calm"))
    score(calm)
    flaky["3.jpg"] = 1
    seen = []
    summary = score(job, on_progress=seen.append)
    assert files_of(job) == files_of(calm)
    assert summary.reasons == REASONS
    # The chunk of three was scored twice, and progress says so honestly.
    assert (summary.scored, summary.parts_skipped) == (10, 0)
    assert (seen[-1].done, seen[-1].failed) == (7, 2)
    assert any(now.reasons.get("fetch/unreachable") for now in seen)


def test_there_is_no_third_chance(job, score, flaky):
    flaky["3.jpg"] = 99
    summary = score(job)
    assert summary.reasons == {**REASONS, "fetch/unreachable": 1}
    assert flaky["3.jpg"] == 97
    assert summary.complete


def test_a_part_of_an_earlier_start_gets_its_second_chance_too(job, score, flaky):
    flaky["0.jpg"] = 1
    with pytest.raises(Broken):
        score(job, on_progress=break_after(6))
    summary = score(job)
    assert summary.reasons == REASONS
    assert (summary.parts_skipped, summary.scored) == (0, 4 + 3)


# Shares


def test_attempts_with_a_shard_each_do_their_own_and_the_last_one_finishes(job, score, tmp_path):
    whole = replace(job, out=str(tmp_path / "whole"))
    score(whole)
    first = score(replace(job, shard=(1, 2)))
    assert (first.complete, first.rows, first.parts, first.files) == (False, 3, 1, 0)
    assert not Path(job.out, "_manifest.json").exists()
    seen = []
    second = score(replace(job, shard=(0, 2)), on_progress=seen.append)
    assert (second.complete, second.rows, second.scored) == (True, 7, 4)
    assert (seen[-1].done, seen[-1].total) == (4, 4)
    assert files_of(job) == files_of(whole)


def test_the_children_of_an_array_job_know_their_shard(job, score, monkeypatch):
    monkeypatch.setenv("AWS_BATCH_JOB_ARRAY_SIZE", "4")
    for index, rows in ((3, 0), (1, 3), (0, 3)):
        monkeypatch.setenv("AWS_BATCH_JOB_ARRAY_INDEX", str(index))
        summary = score(job)
        assert (summary.complete, summary.rows) == (False, rows)
    monkeypatch.setenv("AWS_BATCH_JOB_ARRAY_INDEX", "2")
    assert score(job).complete
    assert len(pandas.read_parquet(job.out)) == 7


@pytest.mark.parametrize("shard", [(2, 2), (-1, 2), (0, 0)])
def test_a_shard_that_does_not_exist_is_refused(job, score, shard):
    with pytest.raises(VeaError, match=r"shard .* of .*: expected an index from 0"):
        score(replace(job, shard=shard))


# Several attempts at the same time


def test_what_another_attempt_does_meanwhile_is_not_done_again(job, score):
    others = []

    def on_progress(now):
        if now.done == 3 and not others:
            others.append(None)
            # Another attempt takes the second chunk and dies at its end.
            with pytest.raises(Broken):
                score(job, on_progress=break_after(7))

    summary = score(job, on_progress=on_progress, refresh=0.0)
    assert (summary.parts, summary.parts_skipped) == (3, 1)
    assert summary.scored == 4
    assert pandas.read_parquet(job.out)["position"].tolist() == list(range(7))


def test_a_start_whose_run_another_one_finishes_leaves_nothing_behind(job, score, tmp_path):
    whole = replace(job, out=str(tmp_path / "whole"))
    score(whole)
    others = []

    def on_progress(now):
        if now.done >= 3 and not others:
            others.append(None)
            others.append(score(job))

    summary = score(job, on_progress=on_progress)
    assert (others[1].complete, summary.complete) == (True, True)
    assert files_of(job) == files_of(whole)


# Too many failures


def test_too_many_failures_end_the_job_early(job, score, photos):
    (photos / "list.txt").write_text("none.jpg\n" * 60 + "0.jpg\n" * 2_000)
    job = replace(job, chunk_size=10, max_error_rate=0.02)
    with pytest.raises(TooManyFailed, match=r"fetch/missing\), .*0\.02.*is kept") as caught:
        score(job)
    # One in fifty of 2,060 is 41; it is noticed when a batch is through.
    assert 42 <= caught.value.progress.failed <= 50
    assert caught.value.exit_code == 3
    assert not Path(job.out, "_SUCCESS").exists()
    assert Path(job.out, "_run", "part-00000.parquet").exists()


def test_as_many_failures_as_allowed_are_fine(job, score):
    assert score(replace(job, max_error_rate=2 / 7)).complete


def test_too_many_failures_are_told_of_a_finished_run_too(job, score):
    with pytest.raises(TooManyFailed):
        score(replace(job, max_error_rate=0.1))
    assert score(job).complete
    with pytest.raises(TooManyFailed, match="2 of 7 images failed"):
        score(replace(job, max_error_rate=0.1))


# Signals


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_job_after_the_chunk_under_way(job, score, number, code):
    told = []

    def on_progress(now):
        if not told:
            told.append(now)
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(Stopped, match="3 of 7 images are done; start the same") as caught:
        score(job, on_progress=on_progress)
    assert caught.value.exit_code == code
    assert signal.getsignal(number) == before
    assert score(job).parts_skipped == 1


def test_without_grace_not_even_the_chunk_under_way_is_ended(job, score, photos, predictor):
    (photos / "list.txt").write_text("0.jpg\n" * 30)
    one_chunk = replace(job, chunk_size=30)
    with pytest.raises(Stopped, match="0 of 30 images are done"):
        score(one_chunk, on_progress=lambda now: os.kill(os.getpid(), signal.SIGTERM), grace=0.0)
    assert predictor.scored < 30


def test_a_signal_before_the_first_chunk_ends_the_job_at_once(job, monkeypatch):
    from jobs.run import driver as run  # noqa: PLC0415

    def interrupted(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the signal came to nothing")

    monkeypatch.setattr(run, "open_declared", interrupted)
    with pytest.raises(Stopped, match="nothing was begun") as caught:
        score_list(job, load=Predictor.load)
    assert caught.value.exit_code == 143
