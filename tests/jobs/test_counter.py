"""`ProgressCounter`: when a job has failed too often to go on."""

import pytest

from jobs.monitoring.counter import NothingScored, ProgressCounter, TooManyFailed, judge
from jobs.values.tasks import PartReport


def report(name, rows, **reasons):
    return PartReport(name, 1, rows, sum(reasons.values()), reasons)


def test_a_rate_is_one_of_the_whole_run_whatever_is_finished_first():
    counter = ProgressCounter(0.05, None)
    counter.begin(1_000, rows=2_000)  # one of two shards
    counter.add(100, {"fetch/missing": 100})
    # What could not be reached is tried again, and may be fine then.
    counter.add(500, {"fetch/unreachable": 500})
    with pytest.raises(TooManyFailed, match="601 of 601 images failed"):
        counter.add(1, {"fetch/missing": 1})


def test_chunks_that_are_done_again_are_counted_once():
    counter = ProgressCounter(0.05, None)
    counter.begin(2_100, rows=2_100)
    parts = [report(f"{i}", 700, **{"fetch/unreachable": 1}) for i in range(2)]
    for part in (*parts, report("2", 700, missing=60)):
        counter.add(part.rows, part.reasons)
    for part in parts:
        counter.revert(part)
    for part in parts:
        counter.add(part.rows, part.reasons)
    assert (counter.progress.done, counter.progress.failed) == (2_100, 62)
    with pytest.raises(TooManyFailed, match="of 2100 images failed"):
        counter.add(0, {"missing": 50})


@pytest.mark.parametrize(
    ("rows", "failed", "limit", "expected"),
    [
        (20, 20, None, NothingScored),
        (20, 19, None, None),
        (0, 0, None, None),
        (20, 20, 1.0, None),
        (20, 2, 0.1, None),
        (20, 3, 0.1, TooManyFailed),
        (20, 20, 0.1, TooManyFailed),
    ],
)
def test_the_verdict_on_a_run(rows, failed, limit, expected):
    reasons = {"fetch/missing": failed}
    if expected is None:
        judge(rows, reasons, limit)
        return
    with pytest.raises(expected, match="--replace-failed") as caught:
        judge(rows, reasons, limit)
    assert type(caught.value) is expected
    assert caught.value.exit_code == 3
