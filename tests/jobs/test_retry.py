import hashlib
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from flaky_s3 import flaky_s3

from jobs.fetching.fetcher import Fetcher
from jobs.storage.errors import ObjectUnavailable, StorageError
from jobs.storage.stores import Stores
from jobs.values.job import RetrySettings
from jobs.values.locations import ObjectLocation

pytestmark = pytest.mark.integration

QUICK = RetrySettings(attempts=4, base=0.001)
PHOTO = bytes(range(256)) * 400


@pytest.fixture
def server(monkeypatch):
    with flaky_s3() as running:
        running.objects["photo.jpg"] = PHOTO
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", running.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
        yield running


@pytest.fixture(params=["boto3", "obstore"])
def client(request):
    pytest.importorskip(request.param)
    return request.param


@pytest.fixture
def fetch(server, client):
    def run(key, max_bytes=10**6):
        fetcher = Fetcher(Stores(retry=QUICK), max_bytes=max_bytes, client=client)
        return fetcher.fetch(f"s3://bucket/{key}")

    return run


def test_an_image_comes_with_its_version(fetch):
    fetched = fetch("photo.jpg")
    assert fetched.data == PHOTO
    assert fetched.etag == hashlib.md5(PHOTO).hexdigest()


@pytest.mark.parametrize("fault", ["cut", "reset", "503", "500", "429"])
def test_a_passing_fault_is_tried_again(server, fetch, fault):
    server.faults["photo.jpg"] = [fault, fault]
    assert fetch("photo.jpg").data == PHOTO
    assert server.requests["photo.jpg"] == 3


@pytest.mark.parametrize("fault", ["cut", "reset", "503"])
def test_a_lasting_fault_is_that_object_s_misfortune(server, fetch, fault):
    server.faults["photo.jpg"] = [fault] * 99
    with pytest.raises(ObjectUnavailable, match="after 4 attempts") as caught:
        fetch("photo.jpg")
    assert caught.value.kind == "unreachable"
    # There is no second retry layer below that multiplies the attempts.
    assert server.requests["photo.jpg"] == 4


def test_a_server_that_takes_no_connections_is_tried_again(server, fetch, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(ObjectUnavailable, match="after 4 attempts") as caught:
            fetch("photo.jpg")
    assert caught.value.kind == "unreachable"


def test_a_missing_object_is_not_asked_for_again(server, fetch):
    with pytest.raises(ObjectUnavailable) as caught:
        fetch("none.jpg")
    assert caught.value.kind == "missing"
    assert server.requests["none.jpg"] == 1


def test_a_forbidden_object_is_that_object_s_misfortune(server, fetch):
    server.faults["photo.jpg"] = ["403 AccessDenied"]
    with pytest.raises(ObjectUnavailable, match=r"denies access .AccessDenied: as told") as caught:
        fetch("photo.jpg")
    assert caught.value.kind == "forbidden"
    assert server.requests["photo.jpg"] == 1


@pytest.mark.parametrize(
    "answer", ["403 InvalidAccessKeyId", "403 SignatureDoesNotMatch", "400 ExpiredToken"]
)
def test_refused_credentials_are_the_end_of_the_job(server, fetch, answer):
    server.faults["photo.jpg"] = [answer]
    with pytest.raises(StorageError, match="S3 refuses the credentials"):
        fetch("photo.jpg")
    assert server.requests["photo.jpg"] == 1


def test_a_missing_bucket_is_that_object_s_misfortune(server, fetch):
    server.faults["photo.jpg"] = ["404 NoSuchBucket"]
    with pytest.raises(ObjectUnavailable, match="the bucket 'bucket' does not exist") as caught:
        fetch("photo.jpg")
    assert caught.value.kind == "no-bucket"


def test_a_large_object_is_refused_by_its_length(fetch):
    with pytest.raises(ObjectUnavailable, match=f"{len(PHOTO)} bytes; at most 10 are") as caught:
        fetch("photo.jpg", max_bytes=10)
    assert caught.value.kind == "too-large"


@pytest.mark.parametrize("key", ["a//b.jpg", "a/./b.jpg", "a/../b.jpg", "b.jpg/", "tab\t.jpg"])
def test_a_key_that_is_no_tidy_path_is_asked_for_as_it_is(server, fetch, key):
    server.objects[key.replace("\t", "%09")] = PHOTO
    assert fetch(key).data == PHOTO


def test_missing_credentials_are_the_end_of_the_job(server, fetch, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StorageError, match="no usable AWS credentials"):
        fetch("photo.jpg")
    assert not server.requests


def test_a_bucket_of_another_region_is_left_to_boto3(server):
    pytest.importorskip("obstore")
    s3 = Stores(retry=QUICK)
    fetcher = Fetcher(s3, max_bytes=10**6, client="obstore")
    server.faults["photo.jpg"] = ["400 AuthorizationHeaderMalformed"]
    for requests in (2, 3):
        assert fetcher.fetch("s3://bucket/photo.jpg").data == PHOTO
        assert server.requests["photo.jpg"] == requests


def test_a_list_that_breaks_off_is_read_from_its_start_again(server, tmp_path):
    server.faults["photo.jpg"] = ["cut"]
    with (tmp_path / "copy").open("w+b") as file:
        Stores(retry=QUICK).download(ObjectLocation("bucket", "photo.jpg"), file)
    assert (tmp_path / "copy").read_bytes() == PHOTO


def test_images_that_are_all_forbidden_stop_the_job(server, client):
    fetcher = Fetcher(Stores(retry=QUICK), max_bytes=10**6, client=client, in_succession=3)
    # A throttled image between them is no answer, for or against.
    server.faults["secret.jpg"] = [*["403 AccessDenied"] * 2, *["503"] * 4, "403 AccessDenied"]
    for _ in range(3):
        with pytest.raises(ObjectUnavailable):
            fetcher.fetch("s3://bucket/secret.jpg")
    with pytest.raises(StorageError, match="S3 denies access to every image") as caught:
        fetcher.fetch("s3://bucket/secret.jpg")
    assert "\n" not in str(caught.value)


def test_forbidden_images_after_a_success_are_their_own_misfortune(server, client):
    fetcher = Fetcher(Stores(retry=QUICK), max_bytes=10**6, client=client, in_succession=3)
    server.faults["secret.jpg"] = ["403 AccessDenied"] * 99
    fetcher.fetch("s3://bucket/photo.jpg")
    for _ in range(5):
        with pytest.raises(ObjectUnavailable, match="denies access"):
            fetcher.fetch("s3://bucket/secret.jpg")


def test_many_threads_slow_down_together_until_the_server_bears_them(server, client):
    server.capacity, server.seconds = 3, 0.02
    settings = RetrySettings(attempts=50, base=0.05, cap=0.1)
    fetcher = Fetcher(Stores(threads=16, retry=settings), max_bytes=10**6, client=client)
    with ThreadPoolExecutor(16) as pool:
        fetched = list(pool.map(fetcher.fetch, ["s3://bucket/photo.jpg"] * 150))
        at_first = server.throttled
        fetched += pool.map(fetcher.fetch, ["s3://bucket/photo.jpg"] * 150)
    assert {item.data for item in fetched} == {PHOTO}
    # Sixteen threads that know no pace are throttled as often as they are served.
    assert server.throttled - at_first < 100


def test_credentials_that_were_renewed_are_used(server, client, tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    config, program = tmp_path / "config", tmp_path / "keys.py"
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    # Credentials that are about to expire, and other ones each time.
    program.write_text(
        "import json, time, datetime as d\n"
        "soon = d.datetime.now(d.UTC) + d.timedelta(seconds=61)\n"
        "print(json.dumps({'Version': 1, 'AccessKeyId': f'KEY{time.time_ns()}',"
        " 'SecretAccessKey': 's', 'SessionToken': 't', 'Expiration': soon.isoformat()}))\n"
    )
    config.write_text(f"[default]\ncredential_process = {sys.executable} {program}\n")
    fetcher = Fetcher(Stores(retry=QUICK), max_bytes=10**6, client=client)
    for _ in range(2):
        fetcher.fetch("s3://bucket/photo.jpg")
    assert len(server.keys) >= 2


def test_closing_ends_a_wait_at_once_and_blames_no_image(server, client):
    server.faults["photo.jpg"] = ["503"] * 99
    s3 = Stores(retry=RetrySettings(attempts=1000, base=1000, cap=1000))
    fetcher = Fetcher(s3, max_bytes=10**6, client=client)
    threading.Timer(0.3, s3.close).start()
    with pytest.raises(StorageError, match="being stopped"):
        fetcher.fetch("s3://bucket/photo.jpg")


def test_waits_grow_are_random_and_have_an_end():
    settings = RetrySettings(base=1.0, cap=5.0)
    for failures, most in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 5.0), (60, 5.0)):
        waits = [settings.delay(failures) for _ in range(200)]
        assert 0.0 <= min(waits) < 0.2 * most
        assert 0.8 * most < max(waits) <= most
