"""Two nights on a real S3 server: what is fetched and scored is what is new, exactly.

The model is a stub whose images are texts; requests for images are counted where they are sent.
"""

import hashlib
import io
import tempfile
import threading
import uuid
from collections import Counter
from contextlib import closing
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import stub_model
from stub_job import ARCHIVE

from jobs.engines.processes import Processes
from jobs.fetching.fetcher import Fetcher
from jobs.output.delta import commit_run
from jobs.run.driver import score_list
from jobs.scoring.sources import source_of
from jobs.storage.errors import NotModified
from jobs.storage.stores import Stores
from jobs.values.job import ScoreJob

pytest_plugins = ["s3_server"]
pytestmark = pytest.mark.integration

PHOTOS = 30
BOTH = 18  # of the photos of a night, also in the other one: 60 %


@pytest.fixture
def fetched(monkeypatch):
    """How often each location was transferred, and how often it was found to be as known."""
    counts, lock = Counter(), threading.Lock()
    fetch = Fetcher.fetch

    def counting(self, location, **options):
        try:
            found = fetch(self, location, **options)
        except NotModified:
            with lock:
                counts["not modified", location] += 1
            raise
        with lock:
            counts["transferred", location] += 1
        return found

    monkeypatch.setattr(Fetcher, "fetch", counting)
    return counts


class Counting(stub_model.StubModel):
    """Remembers what it has scored."""

    def __init__(self):
        self.scored = []

    def predict_decoded(self, images):
        self.scored += [int(image.tobytes().split()[-1]) for image in images]
        return super().predict_decoded(images)

    def load(self, path, *, threads):
        return self


class Bucket:
    """A bucket of photos, and lists of them in which a third of the rows name a photo again."""

    def __init__(self, s3):
        self.s3 = s3
        self.name = uuid.uuid4().hex

    def put(self, number, text=None):
        body = (text or f"{number}").encode()
        self.s3.put_object(Bucket="photos", Key=f"{self.name}/{number}", Body=body)

    def location(self, number):
        return f"s3://photos/{self.name}/{number}"

    def job(self, night, numbers, **options):
        again = numbers[: len(numbers) // 2]
        rows = "\n".join(self.location(number) for number in [*numbers, *again])
        self.s3.put_object(Bucket="photos", Key=f"{self.name}/{night}.txt", Body=rows.encode())
        return ScoreJob(
            f"s3://photos/{self.name}/{night}.txt",
            f"s3://results/{self.name}/dt={night}",
            ARCHIVE,
            chunk_size=7,
            fetch_threads=4,
            once=True,
            **options,
        )

    def rows(self, job):
        key = f"{job.out.removeprefix('s3://results/')}/images-00000.parquet"
        data = self.s3.get_object(Bucket="results", Key=key)["Body"].read()
        return data, pq.read_table(io.BytesIO(data)).to_pylist()


@pytest.fixture
def bucket(s3):
    made = Bucket(s3)
    for number in range(2 * PHOTOS - BOTH):
        made.put(number)
    return made


def nights(bucket, **options):
    first = bucket.job("1", list(range(PHOTOS)))
    numbers = list(range(PHOTOS - BOTH, 2 * PHOTOS - BOTH))
    return first, bucket.job("2", numbers, since=f"s3://results/{bucket.name}/", **options)


def but_for_provenance(rows):
    return [{k: v for k, v in row.items() if k not in ("run_id", "scored_by_run")} for row in rows]


@pytest.mark.parametrize("fetcher", ["obstore", "boto3"])
def test_what_is_fetched_and_scored_is_what_is_new(bucket, fetched, fetcher):
    first, second = nights(bucket, fetcher=fetcher)
    model = Counting()
    run = score_list(first, load=model.load)
    assert sorted(model.scored) == list(range(PHOTOS))
    assert fetched == {("transferred", bucket.location(n)): 1 for n in range(PHOTOS)}
    fetched.clear()
    model = Counting()
    score_list(second, load=model.load)
    new = range(PHOTOS, 2 * PHOTOS - BOTH)
    assert sorted(model.scored) == list(new)
    assert fetched == {
        **{("transferred", bucket.location(n)): 1 for n in new},
        **{("not modified", bucket.location(n)): 1 for n in range(PHOTOS - BOTH, PHOTOS)},
    }
    _, rows = bucket.rows(second)
    assert len(rows) == PHOTOS * 3 // 2
    assert Counter(row["scored_by_run"] for row in rows)[run.run_id] == BOTH + PHOTOS // 2
    plain = replace(second, since=None, once=False, out=f"{second.out}-plain".replace("=", "-"))
    score_list(plain, load=Counting().load)
    assert but_for_provenance(rows) == but_for_provenance(bucket.rows(plain)[1])


def test_a_photo_that_was_replaced_is_scored_again(bucket):
    first, second = nights(bucket)
    score_list(first, load=Counting().load)
    bucket.put(20, "77")
    model = Counting()
    score_list(second, load=model.load)
    assert sorted(model.scored) == [*range(PHOTOS, 2 * PHOTOS - BOTH), 77]


def test_objects_of_several_parts_are_known_by_their_bytes(bucket, s3, fetched):
    key = f"{bucket.name}/large"
    body = b"0" * 5 * 1024 * 1024 + b" 5"
    upload = s3.create_multipart_upload(Bucket="photos", Key=key)["UploadId"]
    parts = []
    for number, part in enumerate((body[: 5 * 1024 * 1024], body[5 * 1024 * 1024 :]), 1):
        sent = s3.upload_part(
            Bucket="photos", Key=key, UploadId=upload, PartNumber=number, Body=part
        )
        parts.append({"PartNumber": number, "ETag": sent["ETag"]})
    s3.complete_multipart_upload(
        Bucket="photos", Key=key, UploadId=upload, MultipartUpload={"Parts": parts}
    )
    scored = []
    for night, hashed in (("1", False), ("2", False), ("3", True), ("4", False)):
        options = {"content_hash": hashed}
        if night != "1":
            options["since"] = f"s3://results/{bucket.name}"
        model = Counting()
        score_list(bucket.job(night, ["large"], **options), load=model.load)
        scored.append(model.scored)
    # The third night kept the digest of its bytes.
    assert scored == [[5], [5], [5], []]
    assert fetched["transferred", bucket.location("large")] == 4
    row = bucket.rows(bucket.job("3", ["large"]))[1][0]
    assert row["content_sha256"] == hashlib.sha256(body).hexdigest()
    assert "-" in row["etag"]


def test_answers_are_copied_from_a_delta_table_in_s3(bucket):
    pytest.importorskip("deltalake")
    first, second = nights(bucket)
    table = f"s3://results/{bucket.name}-table"
    model = Counting()
    model.model = source_of(first, model.load).identify()[0]
    score_list(first, load=model.load)
    with closing(Stores(threads=1)) as stores:
        commit_run(first.out, table, stores)
    model.scored.clear()
    score_list(replace(second, since=table), load=model.load)
    assert sorted(model.scored) == list(range(PHOTOS, 2 * PHOTOS - BOTH))


def test_processes_make_the_same_bytes_and_leave_nothing_in_the_temporary_folder(
    bucket, tmp_path, monkeypatch
):
    first, second = nights(bucket)
    score_list(first, load=stub_model.load)
    one = replace(second, out=f"s3://results/{bucket.name}-one")
    score_list(one, load=Counting().load)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # of the processes
    score_list(second, engine=Processes(2), load=stub_model.load)
    assert bucket.rows(second)[0] == bucket.rows(one)[0]
    assert [path.name for path in tmp_path.glob("vea-since-*/*")] == []
