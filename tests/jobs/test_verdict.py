"""Verdicts on a run: the same whoever scores which image, and however many do."""

from dataclasses import replace
from pathlib import Path

import pandas
import pytest
from flaky_s3 import flaky_s3

from jobs.storage.errors import StorageError
from jobs.values.job import RetrySettings, ScoreJob
from tests.jobs.run_files import files_of

pytestmark = pytest.mark.integration

QUICK = RetrySettings(attempts=2, base=0.001, cap=0.001)


@pytest.fixture
def server(monkeypatch, jpeg):
    with flaky_s3() as running:
        running.objects.update({f"{i}.jpg": jpeg(i) for i in range(3)})
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", running.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
        yield running


@pytest.fixture
def job(server, archive, tmp_path):
    return ScoreJob(
        image_list=str(tmp_path / "list.txt"),
        out=str(tmp_path / "out"),
        model=archive,
        chunk_size=21,
        retry=QUICK,
    )


def write_list(job, names):
    Path(job.image_list).write_text("".join(f"s3://bucket/{name}\n" for name in names))


@pytest.mark.parametrize(
    ("fault", "kind", "fetcher"),
    [
        ("403 AccessDenied", "forbidden", "boto3"),
        ("403 InvalidObjectState", "archived", "obstore"),
        ("404 NoSuchBucket", "no-bucket", "obstore"),
        ("500 InternalError", "unreachable", "boto3"),
        ("403 SignatureDoesNotMatch", "refused", "obstore"),
    ],
)
def test_one_image_that_can_be_read_keeps_the_run_going_however_it_is_divided(
    job, server, score, fault, kind, fetcher
):
    # Each chunk but the last is one that a worker alone would despair of.
    bad = [f"bad-{i}.jpg" for i in range(42)]
    server.faults.update({name: [fault] * 99 for name in bad})
    write_list(job, [*bad, "0.jpg"])
    found = []
    for shards in (1, 2):
        divided = replace(job, out=f"{job.out}-{shards}", fetcher=fetcher)
        for index in range(shards):
            summary = score(replace(divided, shard=(index, shards)))
        assert summary.complete
        found.append(files_of(divided.out))
    assert found[0] == found[1]
    rows = pandas.read_parquet(divided.out)
    assert rows["reason_kind"].fillna("ok").tolist() == [kind] * 42 + ["ok"]
    assert rows["reason"].str.len().max() < 400


def test_of_images_that_are_all_forbidden_none_becomes_a_row_for_good(job, server, score):
    names = [f"{i % 3}.jpg" for i in range(60)]
    server.faults.update({f"{i}.jpg": ["403 AccessDenied"] * 200 for i in range(3)})
    write_list(job, names)
    small = replace(job, chunk_size=5)
    with pytest.raises(StorageError, match="denies access to every image, nor could any of 60"):
        score(small)
    # Chunks are smaller than what raises the suspicion: some are written by then.
    assert list(Path(job.out, "_run").glob("part-*"))
    server.faults.clear()
    assert score(small).ok == 60


def test_an_outage_stops_the_job_and_the_next_start_goes_on(job, server, score, tmp_path):
    write_list(job, [f"{i % 3}.jpg" for i in range(100)])
    calm = replace(job, out=str(tmp_path / "calm"))
    score(calm)

    def cut(now):
        server.capacity = 0 if now.done >= 30 else 1000

    with pytest.raises(StorageError, match=r"S3 is out of reach: .* start again later"):
        score(replace(job, fetch_threads=2), on_progress=cut)
    server.capacity = 1000
    assert score(job).ok == 100
    assert files_of(job.out) == files_of(calm.out)


def test_a_host_of_the_web_that_is_gone_takes_nothing_else_along(job, score, monkeypatch):
    names = [f"https://images.invalid/{i}.jpg" for i in range(21)] + ["s3://bucket/1.jpg"]
    Path(job.image_list).write_text("\n".join(names) + "\n")
    summary = score(replace(job, hosts=("images.invalid",)))
    assert (summary.ok, summary.reasons) == (1, {"fetch/unreachable": 21})


def test_refused_credentials_stop_the_job(job, server, score):
    server.faults.update({f"{i}.jpg": ["403 InvalidAccessKeyId"] * 99 for i in range(3)})
    write_list(job, ["0.jpg", "1.jpg", "2.jpg"])
    with pytest.raises(StorageError, match="S3 refuses the credentials"):
        score(job)
    assert not list(Path(job.out, "_run").glob("part-*"))
