"""`ProgressCounter`: when a job has failed too often to go on."""

import pytest

from jobs.monitoring.counter import ProgressCounter, TooManyFailed
from jobs.values.tasks import PartReport


def report(name, rows, **reasons):
    return PartReport(name, 1, rows, sum(reasons.values()), reasons)


def test_chunks_that_are_done_again_still_count_as_images_that_are_through():
    counter = ProgressCounter(0.05, None)
    counter.begin(2_100)
    parts = [report(f"{i}", 700, unreachable=1) for i in range(2)]
    for part in (*parts, report("2", 700, missing=60)):
        counter.add(part.rows, part.reasons)
    for part in parts:
        counter.revert(part)
    for part in parts:
        counter.add(part.rows, part.reasons)
    assert (counter.progress.done, counter.progress.failed) == (2_100, 62)
    with pytest.raises(TooManyFailed, match="of 2100 images failed"):
        counter.add(0, {"missing": 50})
