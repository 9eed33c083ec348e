"""Jobs that end before their list does: too many failures, and signals."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from handler.predictor import Predictor
from jobs.monitoring.counter import Stopped, TooManyFailed
from jobs.run.driver import score_list


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
