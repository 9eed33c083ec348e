"""Several starts of one run, in turn or at the same time: each row once, the same bytes."""

from dataclasses import replace
from pathlib import Path

import pandas
import pytest

from handler.values.errors import VeaError
from jobs.engines.base import InThisProcess
from jobs.output.ledger import LedgerError
from jobs.storage.errors import ObjectUnavailable
from tests.jobs.run_files import REASONS, Broken, break_after, files_of, manifest_of


def test_a_finished_run_is_told_of_without_the_model(job, score, predictor):
    first = score(job)
    before, manifest = files_of(job.out), manifest_of(job.out)
    seen = []
    second = score(job, on_progress=seen.append)
    assert predictor.loads == 1
    assert files_of(job.out) == before
    assert manifest_of(job.out) == manifest
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
    assert files_of(job.out) == files_of(whole.out)


def test_the_same_run_elsewhere_writes_the_same_bytes(job, score, tmp_path):
    other = replace(job, out=str(tmp_path / "other"), fetch_threads=1)
    score(job)
    score(other)
    assert files_of(job.out) == files_of(other.out)


@pytest.mark.parametrize("change", ["list", "--chunk-size", "--boxes"])
def test_two_runs_are_never_mixed_in_one_folder(job, score, photos, change):
    score(job)
    before = files_of(job.out)
    if change == "list":
        (photos / "list.txt").write_text("0.jpg\n")
    changed = {"list": {}, "--chunk-size": {"chunk_size": 4}, "--boxes": {"boxes": True}}[change]
    with pytest.raises(LedgerError, match=f"another run: .*{change}.* differs; choose another"):
        score(replace(job, **changed))
    assert files_of(job.out) == before


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
    assert files_of(job.out) == files_of(calm.out)
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
    assert files_of(job.out) == files_of(whole.out)


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
    assert files_of(job.out) == files_of(whole.out)
