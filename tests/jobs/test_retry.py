import threading

import pytest
from flaky_s3 import flaky_s3

from jobs.fetch import Fetcher
from jobs.retry import RetryPolicy
from jobs.s3 import S3, S3Location
from jobs.s3_errors import ObjectRefused, S3Error

QUICK = RetryPolicy(attempts=4, base=0.001)
PHOTO = bytes(range(256)) * 400


@pytest.fixture
def server(monkeypatch):
    with flaky_s3() as running:
        running.objects["photo.jpg"] = PHOTO
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", running.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
        yield running


def fetch(key, **options):
    return S3(policy=QUICK).fetch(S3Location("bucket", key), max_bytes=10**6, **options)


@pytest.mark.parametrize("fault", ["cut", "reset", "503", "500", "429"])
def test_a_passing_fault_is_tried_again(server, fault):
    server.faults["photo.jpg"] = [fault, fault]
    assert fetch("photo.jpg") == PHOTO
    assert server.requests["photo.jpg"] == 3


@pytest.mark.parametrize("fault", ["cut", "reset", "503"])
def test_a_lasting_fault_is_that_object_s_misfortune(server, fault):
    server.faults["photo.jpg"] = [fault] * 99
    with pytest.raises(ObjectRefused, match="after 4 attempts") as caught:
        fetch("photo.jpg")
    assert caught.value.kind == "unreachable"
    # There is no second retry layer below that multiplies the attempts.
    assert server.requests["photo.jpg"] == 4


def test_a_missing_object_is_not_asked_for_again(server):
    with pytest.raises(ObjectRefused) as caught:
        fetch("none.jpg")
    assert caught.value.kind == "missing"
    assert server.requests["none.jpg"] == 1


def test_a_forbidden_object_is_that_object_s_misfortune(server):
    server.faults["photo.jpg"] = ["403 AccessDenied"]
    with pytest.raises(ObjectRefused, match=r"denies access .AccessDenied: as told") as caught:
        fetch("photo.jpg")
    assert caught.value.kind == "forbidden"
    assert server.requests["photo.jpg"] == 1


@pytest.mark.parametrize(
    "answer", ["403 InvalidAccessKeyId", "403 SignatureDoesNotMatch", "400 ExpiredToken"]
)
def test_refused_credentials_are_the_end_of_the_job(server, answer):
    server.faults["photo.jpg"] = [answer]
    with pytest.raises(S3Error, match="S3 refuses the credentials"):
        fetch("photo.jpg")
    assert server.requests["photo.jpg"] == 1


def test_a_large_object_is_refused_by_its_length(server):
    location = S3Location("bucket", "photo.jpg")
    with pytest.raises(ObjectRefused, match=f"{len(PHOTO)} bytes; at most 10") as caught:
        S3(policy=QUICK).fetch(location, max_bytes=10)
    assert caught.value.kind == "too-large"


def test_a_list_that_breaks_off_is_read_from_its_start_again(server, tmp_path):
    server.faults["photo.jpg"] = ["cut"]
    with (tmp_path / "copy").open("w+b") as file:
        S3(policy=QUICK).download(S3Location("bucket", "photo.jpg"), file)
    assert (tmp_path / "copy").read_bytes() == PHOTO


def test_an_outage_stops_the_job_and_is_not_blamed_on_the_images(server):
    fetcher = Fetcher(S3(policy=QUICK), max_bytes=10**6, outage=3)
    for key in "ab":
        server.faults[key] = ["503"] * 99
        with pytest.raises(ObjectRefused):
            fetcher.fetch(f"s3://bucket/{key}")
    fetcher.fetch("s3://bucket/photo.jpg")
    for key in "ab":
        with pytest.raises(ObjectRefused):
            fetcher.fetch(f"s3://bucket/{key}")
    with pytest.raises(S3Error, match="out of reach"):
        fetcher.fetch("s3://bucket/b")


def test_closing_ends_a_wait_at_once(server):
    server.faults["photo.jpg"] = ["503"] * 99
    s3 = S3(policy=RetryPolicy(attempts=1000, base=1000, cap=1000))
    threading.Timer(0.3, s3.close).start()
    with pytest.raises(ObjectRefused):
        s3.fetch(S3Location("bucket", "photo.jpg"), max_bytes=10**6)


def test_waits_grow_are_random_and_have_an_end():
    policy = RetryPolicy(base=1.0, cap=5.0)
    for failures, most in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 5.0), (60, 5.0)):
        waits = [policy.delay(failures) for _ in range(200)]
        assert 0.0 <= min(waits) < 0.2 * most
        assert 0.8 * most < max(waits) <= most
