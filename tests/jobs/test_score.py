"""Chunks -> rows. The predictor is a stub: what is tested is what happens around it."""

import errno
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
import torch

from handler.values.emotions import POLARITY
from handler.values.limits import ImageLimits
from handler.values.prediction import AttendedObject, Face, ModelIdentity, Prediction, Refusal
from jobs.fetching.fetcher import Fetched
from jobs.fetching.prefetch import Prefetcher
from jobs.output import parquet
from jobs.scoring.scorer import ChunkScorer, ScoringFailed
from jobs.storage.errors import ObjectUnavailable, StorageError
from jobs.values.chunks import Chunk, Entry
from jobs.values.tasks import Failure, Task

OBJECTS = (
    AttendedObject("dog", 0.5, (1.0, 2.0, 3.0, 4.0), 0.75),
    AttendedObject("sky", 0.25, (0.0, 0.0, 9.0, 9.0), 0.25),
)


class Stub:
    """Takes numbers for images; odd ones cannot be decoded, ``fatal`` ones break it."""

    model = ModelIdentity("stub", "1.0", "d" * 64)
    wheel = POLARITY
    batch_size = 4
    limits = ImageLimits()

    def __init__(self, fatal=(), size=1):
        self.fatal = fatal
        self.size = size
        self.batches = []
        self.decoded = 0
        self.lock = threading.Lock()

    def decode(self, data):
        with self.lock:
            self.decoded += 1
        number = int(data)
        return Refusal(422, "damaged") if number % 2 else torch.full((self.size,), number)

    def predict_decoded(self, images):
        numbers = [image if isinstance(image, Refusal) else int(image[0]) for image in images]
        self.batches.append(numbers)
        if any(number in self.fatal for number in numbers):
            raise RuntimeError("out\nof memory")
        return [n if isinstance(n, Refusal) else self._answer(n) for n in numbers]

    def _answer(self, number):
        return Prediction(
            emotion="positive",
            probabilities={"positive": 0.75, "negative": 0.25},
            p_positive=0.75,
            polarity="positive",
            face_count=1,
            face=Face((1.0, 2.0, 3.0, 4.0), 0.5),
            objects=OBJECTS,
            activation=None,
            width=number,
            height=1,
        )


class Files:
    """Stands in for `Fetcher`: '/7' has the content '7'; 'none…' ones are missing."""

    def __init__(self):
        self.fetched = []

    def fetch(self, location):
        self.fetched.append(location)
        if "none" in location:
            raise ObjectUnavailable("missing", "there is no such file")
        if "outage" in location:
            raise StorageError("out of reach")
        return Fetched(location.rpartition("/")[2].encode(), f"tag of {location}")


def task(images, *, start=0, index=0, **options):
    return Task(Chunk(index, start, tuple(Entry(image) for image in images)), **options)


def numbers(count, first=0):
    return [f"/{i}" for i in range(first, first + count)]


def scorer(*, stub=None, files=None, threads=3, **options):
    return ChunkScorer(
        stub or Stub(), files or Files(), run_id="r", folder="/photos", threads=threads, **options
    )


def score(images, *, start=0, on_images=None, skip=frozenset(), probe=None, **options):
    with scorer(**options) as made:
        scored = made.score(task(images, start=start, skip=skip, probe=probe), on_images)
    return scored.rows


def test_every_image_gives_one_row_in_order_whatever_happens_to_it():
    images = [f"{'/none' if i % 5 == 0 else 's3://b/'}{i}" for i in range(103)]
    rows = score(images, start=1000)
    assert [row["position"] for row in rows] == list(range(1000, 1103))
    assert [row["image"] for row in rows] == images
    for i, row in enumerate(rows):
        expected = "fetch" if i % 5 == 0 else "decode" if i % 2 else None
        assert row["stage"] == expected
        assert row["status"] == ("failed" if expected else "ok")
        assert expected or row["width"] == i
        assert row.get("etag") == (None if i % 5 == 0 else f"tag of {images[i]}")


def test_relative_images_are_looked_for_in_the_folder_of_the_list():
    files = Files()
    score(["2", "/4"], files=files)
    assert sorted(files.fetched) == ["/4", "/photos/2"]


def test_batches_are_cut_by_position_whatever_comes_of_their_images():
    stub = Stub()
    score(["/0", "/none", "/2", "/4", "/6", "/8"], stub=stub)
    assert stub.batches == [[0, 2, 4], [6, 8]]


def test_no_more_than_a_batch_and_the_fetching_threads_work_is_ahead_of_the_model():
    files = Files()
    most = []

    class Slow(Stub):
        def predict_decoded(self, images):
            time.sleep(0.01)
            most.append(len(files.fetched) - sum(map(len, self.batches)))
            return super().predict_decoded(images)

    score(numbers(100), stub=Slow(), files=files, threads=6)
    assert len(most) > 10
    assert 8 <= max(most) <= 4 + 8


def test_the_next_images_are_fetched_and_decoded_while_the_model_works():
    asked = threading.Event()

    class Waits(Stub):
        def decode(self, data):
            if int(data) >= 4:
                asked.set()
            return super().decode(data)

        def predict_decoded(self, images):
            # The first batch cannot end before an image of the second has been decoded.
            assert asked.wait(10)
            return super().predict_decoded(images)

    assert len(score(numbers(20), stub=Waits())) == 20


def test_large_pictures_wait_to_be_decoded_until_there_is_room():
    waiting = []

    class Slow(Stub):
        def predict_decoded(self, images):
            time.sleep(0.05)
            waiting.append(self.decoded - sum(map(len, self.batches)))
            return super().predict_decoded(images)

    # Pictures of 8 x 25 bytes, two for a hundred each: a batch of 400 bytes holds two.
    stub = Slow(size=25)
    rows = score([f"/{2 * i}" for i in range(40)], stub=stub, threads=20, bytes_per_image=100)
    assert [row["width"] for row in rows] == [2 * i for i in range(40)]
    assert {len(batch) for batch in stub.batches} == {2}
    # Two batches of bytes, and the one picture with which the limit is passed; at the end too.
    assert 3 <= max(waiting[10:-3]) <= max(waiting) <= 5


def test_what_the_model_waits_for_is_decoded_even_when_there_is_no_room():
    late = threading.Event()
    decoded = threading.Semaphore(0)

    class Late(Files):
        def fetch(self, location):
            assert location != "/0" or late.wait(10)
            return super().fetch(location)

    def decode(data):
        decoded.release()
        return torch.full((25,), int(data))

    prefetcher = Prefetcher(
        Late(), decode, folder="", fetch_threads=4, decode_threads=2, max_bytes=2 * 8 * 25
    )
    coming = [prefetcher.submit(image) for image in numbers(6)]
    # The other thread fills all the room with what comes behind.
    assert all(decoded.acquire(timeout=10) for _ in range(2))
    with ThreadPoolExecutor(1) as model:
        late.set()
        arrived = model.submit(prefetcher.get, coming[0])
        try:
            assert arrived.result(timeout=10).image[0] == 0
        finally:
            prefetcher.close()


def test_a_fault_of_the_machine_while_fetching_ends_the_job_instead_of_becoming_rows():
    class OutOfFiles(Files):
        def fetch(self, location):
            if location == "/2":
                raise OSError(errno.EMFILE, "too many open files")
            return super().fetch(location)

    prefetcher = Prefetcher(
        OutOfFiles(), bytes, folder="", fetch_threads=1, decode_threads=1, max_bytes=1000
    )
    try:
        with pytest.raises(OSError, match="too many open files"):
            prefetcher.get(prefetcher.submit("/2"))
    finally:
        prefetcher.close()


def test_an_odd_answer_while_fetching_is_that_images_failure():
    class Odd(Files):
        def fetch(self, location):
            raise ValueError("invalid literal for int() with base 10: 'many'")

    prefetcher = Prefetcher(
        Odd(), bytes, folder="", fetch_threads=1, decode_threads=1, max_bytes=1000
    )
    try:
        arrived = prefetcher.get(prefetcher.submit("/2"))
    finally:
        prefetcher.close()
    assert isinstance(arrived.image, Failure)
    assert arrived.image.stage == "fetch"


def test_an_image_that_breaks_the_model_fails_alone():
    rows = score(["/0", "/2", "/4", "/6"], stub=Stub(fatal={4}))
    assert [row["status"] for row in rows] == ["ok", "ok", "failed", "ok"]
    assert rows[2]["stage"] == "predict"
    assert rows[2]["reason"] == "RuntimeError: out of memory"


def test_an_image_that_breaks_the_decoder_fails_alone():
    class Breaks(Stub):
        def decode(self, data):
            if data == b"2":
                raise MemoryError
            return super().decode(data)

    rows = score(["/0", "/2", "/4"], stub=Breaks())
    assert [row["status"] for row in rows] == ["ok", "failed", "ok"]
    assert (rows[1]["stage"], rows[1]["reason_kind"]) == ("decode", "error")


@pytest.mark.parametrize("damaged", [[], ["/1"]])
def test_a_model_that_fails_on_every_image_stops_the_job(damaged):
    with pytest.raises(ScoringFailed, match="RuntimeError: out of memory"):
        score(["/0", "/2", *damaged], stub=Stub(fatal={0, 2}))


def test_an_outage_is_not_a_row():
    with pytest.raises(StorageError):
        score(["/0", "/outage", "/2"])


def test_an_outage_leaves_no_thread_behind():
    before = set(threading.enumerate())  # some of which may end meanwhile
    with pytest.raises(StorageError):
        score(["/outage", *numbers(50)], stub=Stub(size=10**8))
    assert set(threading.enumerate()) <= before


def test_progress_counts_images_and_reasons():
    calls = []
    images = [*numbers(8), "/none", "/none", "/2", "/3", "/4"]
    score(images, on_images=lambda count, failed: calls.append((count, failed)))
    damaged = "decode/damaged"
    assert calls == [
        (4, {damaged: 2}),
        (4, {damaged: 2}),
        (4, {"fetch/missing": 2, damaged: 1}),
        (1, {}),
    ]


def test_skipped_images_are_not_touched_and_say_why():
    files = Files()
    rows = score(numbers(5), files=files, start=10, skip=frozenset({12}))
    assert "/2" not in files.fetched
    row = rows[2]
    assert (row["status"], row["stage"], row["reason_kind"]) == ("failed", "predict", "killed")
    assert row["reason"] == "the process died while it worked on this image"
    assert [row["position"] for row in rows] == [10, 11, 12, 13, 14]


def test_a_probe_touches_its_positions_only():
    files = Files()
    rows = score(numbers(20), files=files, start=100, probe=range(107, 109))
    assert [row["image"] for row in rows] == ["/7", "/8"]
    assert sorted(files.fetched) == ["/7", "/8"]


def test_a_chunk_without_images_comes_through():
    assert score([]) == []


def test_the_time_of_the_model_is_told():
    class Slow(Stub):
        def predict_decoded(self, images):
            time.sleep(0.05)
            return super().predict_decoded(images)

    began = time.monotonic()
    with scorer(stub=Slow()) as made:
        scored = made.score(task(numbers(8)))
    assert 0.1 <= scored.busy <= time.monotonic() - scored.began
    assert scored.began >= began


def test_rows_fit_the_schema_and_failures_leave_nulls():
    extra = pa.schema([("id", pa.int64()), ("tag", pa.string())])
    columns = parquet.schema(POLARITY.labels, extra=extra, boxes=True)
    entries = (Entry("/none", (7, None)), Entry("/2", (8, "x")))
    with scorer(extra=extra.names, boxes=True) as made:
        scored = made.score(Task(Chunk(0, 0, entries)))
    missing, found = parquet.read_part(parquet.encode(scored.rows, columns)).to_pylist()
    assert (missing["id"], missing["tag"], found["id"], found["tag"]) == (7, None, 8, "x")
    assert [missing[name] for name in ("emotion", "objects", "boxes", "etag")] == [None] * 4
    assert found["etag"] == "tag of /2"
    assert (found["objects"], found["faces"], found["face_y2"]) == (2, 1, 4.0)
    assert found["boxes"][0] == {
        **{"x1": 1.0, "y1": 2.0, "x2": 3.0, "y2": 4.0},
        **{"label": "dog", "score": 0.5, "attention": 0.75},
    }
    assert [box["label"] for box in found["boxes"]] == ["dog", "sky"]


def test_boxes_are_not_there_unless_asked_for():
    assert "boxes" not in score(["/2"])[0]


def test_the_same_images_give_the_same_bytes():
    columns = parquet.schema(POLARITY.labels, extra=pa.schema([]), boxes=False)
    with ThreadPoolExecutor(2) as pool:
        parts = pool.map(lambda _: parquet.encode(score(numbers(50)), columns), "ab")
        assert len(set(parts)) == 1
