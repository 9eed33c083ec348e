"""One chunk. The predictor is a stub: what is tested is what happens around it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from handler.emotions import POLARITY
from handler.images import ImageLimits
from handler.predictor import ModelIdentity, Prediction, Refusal
from jobs import sink
from jobs.chunks import Chunk
from jobs.s3_errors import ObjectRefused, S3Error
from jobs.score import ChunkScorer, ScoringFailed


class Stub:
    """Takes numbers for images; odd ones cannot be decoded, ``fatal`` ones break it."""

    model = ModelIdentity("stub", "1.0", "d" * 64)
    wheel = POLARITY
    batch_size = 4
    limits = ImageLimits()

    def __init__(self, fatal=()):
        self.fatal = fatal
        self.windows = []

    def predict(self, images):
        numbers = [int(image) for image in images]
        self.windows.append(numbers)
        if any(number in self.fatal for number in numbers):
            raise RuntimeError("out\nof memory")
        return [self._answer(number) for number in numbers]

    def _answer(self, number):
        if number % 2:
            return Refusal(422, "damaged")
        return Prediction(
            emotion="positive",
            probabilities={"positive": 0.75, "negative": 0.25},
            p_positive=0.75,
            polarity="positive",
            face_count=0,
            face=None,
            objects=(),
            activation=None,
            width=number,
            height=1,
        )


class Files:
    """Stands in for `Fetcher`: images are their own names; 'none…' ones are missing."""

    def __init__(self):
        self.fetched = 0
        self.lock = threading.Lock()

    def fetch(self, location):
        with self.lock:
            self.fetched += 1
        if "none" in location:
            raise ObjectRefused("missing", "there is no such file")
        if "outage" in location:
            raise S3Error("out of reach")
        return location.encode()


def score(images, *, stub=None, files=None, start=0, on_images=None):
    scorer = ChunkScorer(stub or Stub(), files or Files(), run_id="r", folder="/photos", threads=3)
    with scorer:
        return scorer.score(Chunk(0, start, tuple(images)), on_images)


def test_every_image_gives_one_row_in_order_whatever_happens_to_it():
    images = [f"{'/none' if i % 5 == 0 else ''}{i}" for i in range(103)]
    images = [image if image.startswith("/") else f"s3://{image}" for image in images]

    class Bucket(Files):
        def fetch(self, location):
            return super().fetch(location).removeprefix(b"s3://")

    rows = score(images, files=Bucket(), start=1000)
    assert [row["position"] for row in rows] == list(range(1000, 1103))
    assert [row["image"] for row in rows] == images
    for i, row in enumerate(rows):
        expected = "fetch" if i % 5 == 0 else "decode" if i % 2 else None
        assert row["stage"] == expected
        assert row["status"] == ("failed" if expected else "ok")
        assert expected or row["width"] == i


def test_no_more_than_two_windows_are_fetched_ahead_of_the_model():
    files = Files()
    most = []

    class Slow(Stub):
        def predict(self, images):
            most.append(files.fetched - sum(map(len, self.windows)))
            return super().predict(images)

    score([f"/{i}" for i in range(100)], stub=Slow(), files=_numbers(files))
    assert len(most) > 10
    assert max(most) <= 2 * 8


def test_the_next_images_are_fetched_while_the_model_works():
    files = _numbers(Files())
    asked = threading.Event()

    class Waits(Stub):
        def predict(self, images):
            # The first window cannot end before an image of the second has been asked for.
            if not self.windows:
                assert asked.wait(10)
            return super().predict(images)

    class Signals:
        def fetch(self, location):
            if int(location.rpartition("/")[2]) >= 8:
                asked.set()
            return files.fetch(location)

    assert len(score([f"/{i}" for i in range(20)], stub=Waits(), files=Signals())) == 20


def test_an_image_that_breaks_the_model_fails_alone():
    rows = score([f"/{i}" for i in (0, 2, 4, 6)], stub=Stub(fatal={4}), files=_numbers(Files()))
    assert [row["status"] for row in rows] == ["ok", "ok", "failed", "ok"]
    assert rows[2]["stage"] == "predict"
    assert rows[2]["reason"] == "RuntimeError: out of memory"


def test_a_model_that_fails_on_every_image_stops_the_job():
    with pytest.raises(ScoringFailed, match="RuntimeError: out of memory"):
        score(["/0", "/2"], stub=Stub(fatal={0, 2}), files=_numbers(Files()))


def test_an_outage_is_not_a_row():
    with pytest.raises(S3Error):
        score(["/0", "/outage", "/2"], files=_numbers(Files()))


def test_progress_counts_images_and_failures():
    calls = []
    score(
        [f"/{i}" for i in range(20)],
        files=_numbers(Files()),
        on_images=lambda count, failed: calls.append((count, failed)),
    )
    assert calls == [(8, 4), (8, 4), (4, 2)]


def test_rows_fit_the_schema_and_failures_leave_nulls():
    rows = score(["/none", "/2"], files=_numbers(Files()))
    table = sink.schema(POLARITY.labels)
    data = sink.encode(rows, table)
    report = sink.report_part("part-00000.parquet", data)
    assert (report.rows, report.failed, report.reasons) == (2, 1, {"fetch/missing": 1})
    assert report == sink.report_rows("part-00000.parquet", len(data), rows)


def test_the_same_rows_give_the_same_bytes():
    columns = sink.schema(POLARITY.labels)
    with ThreadPoolExecutor(2) as pool:
        images = [f"/{i}" for i in range(50)]
        parts = pool.map(
            lambda _: sink.encode(score(images, files=_numbers(Files())), columns), "ab"
        )
        assert len(set(parts)) == 1


def _numbers(files):
    """Fetches '/7' as b'7'."""

    class Numbers:
        def fetch(self, location):
            return files.fetch(location).removeprefix(b"/")

    return Numbers()
