"""Runs that failed: what ends as one, and what takes its place."""

from dataclasses import replace
from pathlib import Path

import pandas
import pytest

from jobs.monitoring.counter import NothingScored, TooManyFailed
from jobs.output.ledger import LedgerError
from jobs.values.job import ScoreJob
from tests.jobs.run_files import Broken, files_of, manifest_of


@pytest.fixture
def folder(tmp_path, jpeg):
    """Three photos, and a list of four that are not there."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(3):
        (photos / f"{i}.jpg").write_bytes(jpeg(i))
    (photos / "list.txt").write_text("".join(f"none-{i}.jpg\n" for i in range(4)))
    return photos


@pytest.fixture
def job(folder, archive, tmp_path):
    return ScoreJob(
        image_list=str(folder / "list.txt"), out=str(tmp_path / "out"), model=archive, chunk_size=2
    )


@pytest.fixture
def mended(folder, job, score, tmp_path):
    """What the mended list gives in an empty folder."""

    def write(lines="0.jpg\n1.jpg\nnone.jpg\n"):
        (folder / "list.txt").write_text(lines)
        whole = replace(job, out=str(tmp_path / "whole"))
        score(whole)
        return files_of(whole.out)

    return write


def test_a_night_of_which_nothing_was_scored_is_not_complete(job, score):
    for _ in range(2):
        with pytest.raises(NothingScored, match=r"not one of 4 images .*4 fetch/missing") as caught:
            score(job)
        assert caught.value.exit_code == 3
    assert not Path(job.out, "_SUCCESS").exists()
    assert not Path(job.out, "_manifest.json").exists()
    assert not list(Path(job.out).glob("*.parquet"))


def test_it_is_complete_if_somebody_says_so(job, score):
    assert score(replace(job, max_error_rate=1.0)).failed == 4
    # And the next start that does not say so hears of it.
    with pytest.raises(NothingScored):
        score(job)


@pytest.mark.parametrize("shards", [1, 2])
def test_one_image_is_enough_whoever_scored_it(job, score, folder, shards):
    (folder / "list.txt").write_text("none.jpg\n" * 4 + "0.jpg\nnone.jpg\n")
    for index in range(shards):
        summary = score(replace(job, shard=(index, shards)))
    assert (summary.complete, len(pandas.read_parquet(job.out))) == (True, 6)


def test_the_rate_of_failures_is_one_of_the_run_and_not_of_a_shard(job, score, folder):
    # Chunks of two: the first shard gets all that fails.
    (folder / "list.txt").write_text("none.jpg\nnone.jpg\n0.jpg\n1.jpg\n")
    for index in (0, 1):
        summary = score(replace(job, shard=(index, 2), max_error_rate=0.5))
    assert summary.complete
    other = replace(job, out=f"{job.out}-2", max_error_rate=0.4)
    assert not score(replace(other, shard=(1, 2))).complete
    with pytest.raises(TooManyFailed):
        score(replace(other, shard=(0, 2)))


def test_a_mended_list_replaces_a_run_that_failed(job, score, mended):
    with pytest.raises(NothingScored):
        score(job)
    whole = mended()
    with pytest.raises(LedgerError, match=r"the list of images differs.*--replace-failed"):
        score(job)
    score(replace(job, replace_failed=True))
    assert files_of(job.out) == whole


def test_it_replaces_a_run_that_was_accepted_in_spite_of_its_failures_too(job, score, mended):
    score(replace(job, max_error_rate=1.0))
    whole = mended()
    score(replace(job, replace_failed=True))
    assert files_of(job.out) == whole


def test_a_run_that_has_not_failed_is_never_replaced(job, score, folder, mended):
    (folder / "list.txt").write_text("0.jpg\nnone.jpg\n")
    score(job)
    before = files_of(job.out)
    mended()
    with pytest.raises(LedgerError, match="the list of images differs"):
        score(replace(job, replace_failed=True))
    assert files_of(job.out) == before


def is_whole(out):
    manifest = manifest_of(out)
    return pandas.read_parquet(out)["run_id"].tolist() == [manifest["run_id"]] * manifest["rows"]


def test_a_run_that_was_interrupted_is_resumed(job, score, predictor, folder):
    (folder / "list.txt").write_text("0.jpg\n1.jpg\n2.jpg\n0.jpg\n")

    def stop(now):
        if now.done > 2:
            raise Broken

    with pytest.raises(Broken):
        score(job, on_progress=stop)
    summary = score(replace(job, replace_failed=True))
    assert (summary.parts_skipped, summary.scored) == (1, 2)


def test_images_that_are_there_now_are_scored_with_the_same_list(job, score, folder, jpeg):
    names = [f"none-{i}.jpg" for i in range(4)]
    (folder / "list.txt").write_text("\n".join(["0.jpg", "1.jpg", *names]) + "\n")
    limited = replace(job, max_error_rate=0.4)
    with pytest.raises(TooManyFailed):
        score(limited)
    for i, name in enumerate(names):
        (folder / name).write_bytes(jpeg(i))
    summary = score(replace(limited, replace_failed=True))
    # What had been scored is kept; what had failed is not.
    assert (summary.ok, summary.parts_skipped, summary.scored) == (6, 1, 4)
    assert not Path(job.out, "_run", "failed.json").exists()


def test_a_folder_of_images_is_listed_anew(job, score, folder, jpeg):
    (folder / "list.txt").unlink()
    for path in folder.iterdir():
        path.write_bytes(b"\xff\xd8\xff broken")
    prefix = replace(job, image_list=f"{folder}/")
    with pytest.raises(NothingScored, match="3 decode/"):
        score(prefix)
    (folder / "4.jpg").write_bytes(jpeg(4))
    assert score(replace(prefix, replace_failed=True)).rows == 4


@pytest.mark.parametrize("step", range(7))
def test_a_replacement_that_is_killed_goes_on(job, score, mended, monkeypatch, step):
    score(replace(job, max_error_rate=1.0))
    whole = mended()
    calls = []
    unlink = Path.unlink

    def dies(self, missing_ok=False):
        if str(self).startswith(job.out) and not self.name.startswith("."):
            calls.append(self)
            if len(calls) == step + 1:
                raise Broken
        unlink(self, missing_ok=missing_ok)

    job = replace(job, replace_failed=True)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", dies)
        try:
            score(job)
        except Broken:
            assert not Path(job.out, "_SUCCESS").exists() or step == 0 or is_whole(job.out)
    score(job)
    assert files_of(job.out) == whole


def test_a_part_that_another_run_wrote_into_the_folder_since_is_not_taken(job, score, mended):
    with pytest.raises(NothingScored):
        score(job)
    late = Path(job.out, "_run", "part-00001.parquet").read_bytes()
    mended()

    def write_late(now):
        if now.done == 3:
            Path(job.out, "_run", "part-00001.parquet").write_bytes(late)

    replaced = replace(job, replace_failed=True)
    score(replaced, on_progress=write_late)
    rows = pandas.read_parquet(job.out)
    manifest = manifest_of(job.out)
    assert set(rows["run_id"]) == {manifest["run_id"]}
