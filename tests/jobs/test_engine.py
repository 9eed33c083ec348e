"""The engine that scores in this process."""

import threading
from contextlib import contextmanager

from jobs.engines.base import InThisProcess
from jobs.engines.signals import StopRequest
from jobs.values.chunks import Entry, split
from jobs.values.tasks import PartReport, Task


class StubWorker:
    """Tells of every image, and does nothing with it."""

    def __init__(self):
        self.starts = 0
        self.ends = 0

    @contextmanager
    def start(self, on_images):
        self.starts += 1

        def work(task):
            for _ in task.chunk.entries:
                on_images(1, {})
            return PartReport(task.chunk.id, 0, len(task.chunk.entries), 0)

        try:
            yield work
        finally:
            self.ends += 1


def tasks(count):
    return (Task(chunk) for chunk in split([Entry(str(i)) for i in range(count)], 3))


def run(worker, todo, *, stop=None, on_images=lambda *_: None):
    return InThisProcess().run(
        todo, worker, on_images=on_images, on_poison=None, stop=stop or StopRequest()
    )


def test_chunks_are_scored_in_order_with_one_model():
    worker = StubWorker()
    reports = list(run(worker, tasks(8)))
    assert [report.rows for report in reports] == [3, 3, 2]
    assert (worker.starts, worker.ends) == (1, 1)


def test_without_a_chunk_the_model_is_not_loaded():
    worker = StubWorker()
    assert list(run(worker, iter(()))) == []
    assert worker.starts == 0


def test_no_chunk_is_begun_after_a_request_to_stop():
    stop, seen = StopRequest(), []

    def on_images(*_):
        seen.append(None)
        if len(seen) == 4:
            stop.request()

    worker = StubWorker()
    assert len(list(run(worker, tasks(100), stop=stop, on_images=on_images))) == 2
    assert worker.ends == 1


def test_a_second_request_ends_the_chunk_under_way():
    stop, seen = StopRequest(), []

    def on_images(*_):
        seen.append(None)
        if len(seen) >= 4:
            stop.request()

    worker = StubWorker()
    assert len(list(run(worker, tasks(100), stop=stop, on_images=on_images))) == 1
    assert len(seen) == 5
    assert worker.ends == 1


def test_a_job_in_a_thread_of_its_own_leaves_signals_alone():
    entered = []

    def inside():
        with StopRequest().listen() as stop:
            entered.append(stop.is_set())

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert entered == [False]
