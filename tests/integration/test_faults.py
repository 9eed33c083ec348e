"""Images from a real S3 server through a network that throttles, breaks and delays."""

import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from fault_proxy import FaultProxy, faults_before

from jobs.fetching.fetcher import Fetcher
from jobs.storage.errors import ObjectUnavailable, StorageError
from jobs.storage.stores import Stores
from jobs.values.job import RetrySettings
from jobs.values.locations import ObjectLocation

pytest_plugins = ["s3_server"]
pytestmark = pytest.mark.integration

PATIENT = RetrySettings(attempts=9, base=0.05, cap=1.0)
COUNT = 300


@pytest.fixture(scope="module")
def images(s3_server):
    """Location -> content of objects between nothing and 150 KB, which end up on S3."""
    made = {}
    for number in range(COUNT):
        chooser = random.Random(number)
        made[f"faults/{number:03d} ü+?.jpg"] = chooser.randbytes(chooser.randrange(150_000))
    put = s3_server.client().put_object
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(put, Bucket="photos", Key=k, Body=v) for k, v in made.items()]
        for job in jobs:
            job.result()
    return {f"s3://photos/{key}": content for key, content in made.items()}


@pytest.fixture(params=["boto3", "obstore"])
def client(request):
    pytest.importorskip(request.param)
    return request.param


def test_every_image_arrives_whole_through_a_bad_network(
    s3, s3_server, images, client, monkeypatch
):
    shares = {"slowdown": 0.2, "reset": 0.02, "cut": 0.02, "trickle": 0.02}
    with faults_before(s3_server.endpoint, seed=7, **shares) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        access = Stores(threads=16, retry=PATIENT)
        fetcher = Fetcher(access, max_bytes=10**6, client=client)
        with ThreadPoolExecutor(16) as pool:
            fetched = list(pool.map(fetcher.fetch, images))
    assert [item.data for item in fetched] == list(images.values())
    assert all(item.etag and '"' not in item.etag for item in fetched)


def test_writes_and_listings_survive_it_too(s3, s3_server, monkeypatch):
    shares = {"slowdown": 0.2, "reset": 0.05, "cut": 0.05, "lost": 0.1}
    names = [f"out/{number:02d}" for number in range(40)]
    with faults_before(s3_server.endpoint, seed=3, **shares) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        access = Stores(retry=PATIENT)
        for name in names:
            access.put(ObjectLocation("results", name), name.encode())
        assert set(access.list(ObjectLocation("results", "out/"))) == {n[4:] for n in names}
        access.delete(ObjectLocation("results", name) for name in names[1:])
        assert list(access.walk(ObjectLocation("results", "out/"))) == names[:1]


def test_a_walk_finds_every_key_below_a_prefix_however_many_pages_there_are(s3):
    keys = sorted(f"walk/{number % 7}/{number:04d}.jpg" for number in range(1_050))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: s3.put_object(Bucket="results", Key=key, Body=b""), keys))
    access = Stores()
    assert list(access.walk(ObjectLocation("results", "walk/"))) == keys
    assert list(access.walk(ObjectLocation("results", "walk/3"))) == [
        key for key in keys if key.startswith("walk/3")
    ]
    # More than one request may name, and some that are not there.
    gone = [*keys[:1_020], "walk/none"]
    access.delete(ObjectLocation("results", key) for key in gone)
    assert list(access.walk(ObjectLocation("results", "walk/"))) == keys[1_020:]


@pytest.mark.parametrize("wrong", ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"])
def test_wrong_credentials_stop_the_job_at_once(s3, images, client, monkeypatch, wrong):
    monkeypatch.setenv(wrong, "wrong")
    fetcher = Fetcher(Stores(), max_bytes=10**6, client=client)
    began = time.monotonic()
    with pytest.raises(StorageError, match="S3 refuses the credentials") as caught:
        fetcher.fetch(next(iter(images)))
    assert time.monotonic() - began < 20
    assert "\n" not in str(caught.value)


def test_real_answers_are_sorted(s3, images, client):
    fetcher = Fetcher(Stores(), max_bytes=10, client=client)
    large = next(location for location, content in images.items() if len(content) > 10)
    for location, kind in ((large, "too-large"), ("s3://photos/none/a.jpg", "missing")):
        with pytest.raises(ObjectUnavailable) as caught:
            fetcher.fetch(location)
        assert caught.value.kind == kind
    with pytest.raises(ObjectUnavailable, match="the bucket 'no-such-bucket' does not exist"):
        fetcher.fetch("s3://no-such-bucket/a.jpg")


def test_faults_follow_from_seed_and_number():
    shares = {"slowdown": 0.2, "cut": 0.1}
    runs = []
    for seed in (1, 1, 2):
        proxy = FaultProxy("http://127.0.0.1:1", seed=seed, **shares)
        runs.append([proxy.next_fault() for _ in range(1_000)])
    assert runs[0] == runs[1] != runs[2]
    assert 150 < runs[0].count("slowdown") < 250
    assert runs[0].count("reset") == 0
