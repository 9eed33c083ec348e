"""Dispatch over workers that die as they are told: no processes, only the decisions."""

import random
import signal
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.engines.dispatch import (
    Died,
    Failed,
    Finished,
    Images,
    WorkerFailed,
    WorkerReady,
    dispatch,
)
from jobs.engines.quarantine import WorkersDie
from jobs.engines.signals import StopRequest
from jobs.output.parquet import report_rows
from jobs.values.chunks import Entry, split
from jobs.values.tasks import Task

OK = {"status": "ok"}
KILLED = {"status": "failed", "stage": "predict", "reason_kind": "killed"}


class FakePool:
    """A worker pool that does everything at once in `wait`, in an order that a seed decides.

    Args:
        capacity: Number of workers that can run at a time.
        kills: Function of a task and the positions that it touches: whether its worker dies.
        stillborn: Number of workers that die before they are ready.
        seed: Seed of the order.
    """

    def __init__(self, capacity=2, kills=lambda task, touched: False, *, stillborn=0, seed=0):
        self._capacity = capacity
        self._kills = kills
        self._stillborn = stillborn
        self._rng = random.Random(seed)
        self.alive = {}
        self.started = 0
        self.tasks = []
        self.closed = False
        self.before_wait = lambda: None

    def capacity(self):
        return self._capacity

    def start(self):
        number, self.started = self.started, self.started + 1
        self.alive[number] = "new"
        assert len(self.alive) <= self._capacity
        return number

    def assign(self, worker_id, task):
        assert self.alive[worker_id] is None, "one task at a time"
        self.alive[worker_id] = task
        self.tasks.append(task)

    def wait(self, stop, timeout):
        self.before_wait()
        waiting = [worker_id for worker_id, state in self.alive.items() if state is not None]
        assert waiting, "nothing would ever happen"
        chosen = self._rng.sample(waiting, self._rng.randint(1, len(waiting)))
        return [
            event
            for worker_id in chosen
            for event in self.work_on(worker_id, self.alive[worker_id])
        ]

    def work_on(self, worker_id, task):
        if task == "new":
            if worker_id < self._stillborn:
                del self.alive[worker_id]
                return [Died(worker_id, "no such model")]
            self.alive[worker_id] = None
            return [WorkerReady(worker_id)]
        span = task.chunk.positions if task.probe is None else task.probe
        rows = [KILLED if position in task.skip else OK for position in span]
        told = Images(worker_id, len(rows) // 2, {})
        if self._kills(task, set(span) - task.skip):
            del self.alive[worker_id]
            return [told, Died(worker_id, "killed by SIGSEGV")]
        self.alive[worker_id] = None
        name = f"{task.chunk.id}.parquet" if task.probe is None else ""
        return [told, Finished(worker_id, report_rows(name, 0, rows))]

    def close(self):
        self.closed = True


class Run:
    """What comes out of a dispatch."""

    def __init__(self, pool, count=30, size=10, *, skip=()):
        self.through = 0
        self.reasons = Counter()
        self.poison = {}
        self.reports = []
        self.stop = StopRequest(grace=100)
        chunks = split([Entry(str(i)) for i in range(count)], size)
        self._todo = (Task(chunk, skip=frozenset(skip)) for chunk in chunks)
        self._pool = pool

    def go(self):
        for report in dispatch(
            self._pool,
            self._todo,
            on_images=self._count,
            on_poison=self._found,
            stop=self.stop,
        ):
            self.reports.append(report)
        return self

    def _count(self, count, failed):
        self.through += count
        self.reasons.update(failed)

    def _found(self, chunk, positions):
        self.poison[chunk.index] = positions

    @property
    def names(self):
        return sorted(report.name for report in self.reports)


def names(count):
    return [f"part-{i:05d}.parquet" for i in range(count)]


@settings(deadline=None, max_examples=150)  # a loaded machine is no finding
@given(
    count=st.integers(1, 60),
    size=st.integers(1, 20),
    capacity=st.integers(1, 4),
    accidents=st.sampled_from([0.0, 0.05, 0.2]),
    seed=st.integers(),
    data=st.data(),
)
def test_whatever_dies_every_chunk_is_reported_once_and_poison_is_found(
    count, size, capacity, accidents, seed, data
):
    poison = data.draw(st.sets(st.integers(0, count - 1), max_size=5))
    rng = random.Random(seed)
    pool = FakePool(
        capacity, lambda _, touched: touched & poison or rng.random() < accidents, seed=seed
    )
    run = Run(pool, count, size)
    try:
        run.go()
    except WorkersDie:
        assert accidents
        return
    finally:
        assert pool.closed
    assert run.names == names(-(-count // size))
    assert run.through == count == sum(report.rows for report in run.reports)
    quarantined = {position for found in run.poison.values() for position in found}
    assert quarantined >= poison
    assert accidents or quarantined == poison
    assert run.reasons["predict/killed"] == len(quarantined)
    assert sum(report.failed for report in run.reports) == len(quarantined)


def test_a_death_alone_costs_no_more_than_another_try():
    deaths = iter([True])
    pool = FakePool(kills=lambda *_: next(deaths, False))
    run = Run(pool).go()
    assert run.names == names(3)
    assert run.poison == {}
    assert len(pool.tasks) == 4
    assert all(task.probe is None for task in pool.tasks)


def test_an_image_that_kills_once_is_not_poison():
    alone = []

    def kills(task, touched):
        if 7 not in touched:
            return False
        if task.probe is None:
            return not alone
        if len(task.probe) == 1:
            alone.append(task)
            return len(alone) == 1
        return True

    run = Run(FakePool(kills=kills)).go()
    assert run.names == names(3)
    assert run.poison == {}
    assert len(alone) == 2


def test_images_that_are_poison_already_are_not_touched_again():
    run = Run(FakePool(kills=lambda _, touched: touched & {1, 2}), skip={1}).go()
    assert run.poison == {0: {1, 2}}


def test_a_chunk_that_kills_only_as_a_whole_ends_the_job():
    run = Run(FakePool(kills=lambda _, touched: len(touched) == 10))
    with pytest.raises(WorkersDie, match=r"part-00000 .* none .* alone .*SIGSEGV.*--workers"):
        run.go()


def test_a_chunk_of_nothing_but_killers_is_not_blamed_on_the_images():
    run = Run(FakePool(kills=lambda task, _: task.chunk.index == 1))
    with pytest.raises(WorkersDie, match=r"each of the 10 images of part-00001 .* this machine"):
        run.go()
    assert run.poison == {}


def test_workers_that_never_get_anything_done_end_the_job():
    pool = FakePool(kills=lambda *_: True)
    run = Run(pool, 10_000, 1_000)
    with pytest.raises(WorkersDie, match="in a row ended during their work: killed by SIGSEGV"):
        run.go()
    assert pool.started < 100
    assert run.poison == {}


def test_two_workers_that_fail_to_start_are_replaced():
    pool = FakePool(capacity=1, stillborn=2)
    assert Run(pool).go().names == names(3)


def test_three_workers_that_fail_to_start_end_the_job_with_their_last_words():
    pool = FakePool(capacity=1, stillborn=3)
    with pytest.raises(WorkersDie, match=r"3 workers in a row .* ready: no such model"):
        Run(pool).go()
    assert pool.closed


def test_a_worker_that_was_dead_before_it_got_its_chunk_is_not_held_against_the_chunk():
    class Lost(FakePool):
        def work_on(self, worker_id, task):
            if task != "new" and worker_id < 6:
                del self.alive[worker_id]
                return [Died(worker_id, "the machine is gone", begun=False)]
            return super().work_on(worker_id, task)

    pool = Lost(capacity=1)
    assert Run(pool).go().names == names(3)
    assert all(task.probe is None for task in pool.tasks)


def test_an_error_in_a_worker_ends_the_job_with_its_line():
    class Refused(FakePool):
        def work_on(self, worker_id, task):
            return (
                [WorkerReady(worker_id)]
                if task == "new"
                else [Failed(worker_id, "S3 refuses the credentials")]
            )

        def assign(self, worker_id, task):
            self.alive[worker_id] = task

    pool = Refused(capacity=1)
    with pytest.raises(WorkerFailed, match=r"^S3 refuses the credentials$"):
        Run(pool).go()
    assert pool.closed


def test_no_more_workers_are_started_than_there_are_chunks():
    pool = FakePool(capacity=8)
    Run(pool).go()
    assert pool.started == 3


def test_the_list_is_read_no_further_than_workers_can_take():
    taken = []

    def endless():
        for chunk in split((Entry("image") for _ in iter(int, 1)), 10):
            taken.append(chunk)
            yield Task(chunk)

    pool = FakePool(capacity=3)
    reports = dispatch(
        pool, endless(), on_images=lambda *_: None, on_poison=None, stop=StopRequest()
    )
    for _ in range(20):
        next(reports)
    assert len(taken) <= 20 + 2 * 3
    reports.close()
    assert pool.closed


def test_after_a_signal_chunks_under_way_are_reported_and_no_other_is_begun():
    pool = FakePool(capacity=2)
    run = Run(pool, 1_000)
    pool.before_wait = lambda: (
        run.stop.request() if len(pool.tasks) == 4 and not run.stop.is_set() else None
    )
    run.go()
    assert len(pool.tasks) == 4
    assert run.names == names(4)
    assert run.stop.signal == signal.SIGTERM


def test_a_second_signal_ends_the_wait():
    timeouts = []

    class Stuck(FakePool):
        def wait(self, stop, timeout):
            if len(self.tasks) < 4:
                return super().wait(stop, timeout)
            timeouts.append(timeout)
            stop.request()
            return []

    pool = Stuck(capacity=2)
    run = Run(pool, 1_000).go()
    assert len(run.reports) < 4
    assert timeouts[0] is None
    assert 0 < timeouts[1] <= 100
    assert len(timeouts) == 2
    assert pool.closed
