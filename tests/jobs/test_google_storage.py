"""Lists, images and results in Google Cloud Storage, on a server that keeps its conditions."""

import io
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from gcs_server import google_storage

from jobs.fetching.fetcher import Fetcher
from jobs.lists.image_list import open_list
from jobs.storage.errors import NotModified, ObjectUnavailable, StorageError
from jobs.storage.folders import ObjectMissing, StoreFolder, UnconditionalWrites
from jobs.storage.pinned import open_pinned
from jobs.storage.stores import Stores
from jobs.values.job import RetrySettings
from jobs.values.locations import ObjectLocation

pytestmark = pytest.mark.integration

QUICK = RetrySettings(attempts=4, base=0.01, cap=0.05)
PHOTO = bytes(range(256)) * 400
ODD = "a/b c?#%41é*~+&.jpg"


@pytest.fixture
def server(monkeypatch):
    with google_storage("photos", "results") as running:
        for name in ("GOOGLE_BASE_URL", "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_BEARER_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.endpoint)
        running.buckets["photos"] |= {"photo.jpg": PHOTO, ODD: PHOTO}
        yield running


@pytest.fixture
def stores():
    return Stores(retry=QUICK)


@pytest.fixture
def fetcher(stores):
    return Fetcher(stores, max_bytes=10**6)


@pytest.fixture
def folder(server, stores):
    return StoreFolder("gs://results/night", stores)


def refusal(fetcher, location):
    with pytest.raises(ObjectUnavailable) as caught:
        fetcher.fetch(location)
    assert "\n" not in caught.value.reason
    return caught.value.kind


@pytest.mark.parametrize("key", ["photo.jpg", ODD])
def test_an_image_has_its_bytes_and_its_etag(server, fetcher, key):
    fetched = fetcher.fetch(f"gs://photos/{key}")
    assert fetched.data == PHOTO
    assert len(fetched.etag) == 32


@pytest.mark.parametrize("fault", ["503", "500", "429", "reset", "cut"])
def test_what_fails_once_is_fetched_again(server, fetcher, fault):
    server.faults["photo.jpg"] = [fault]
    assert fetcher.fetch("gs://photos/photo.jpg").data == PHOTO
    assert server.requests["GET photo.jpg"] == 2


def test_what_has_not_changed_is_not_sent_again(server, fetcher):
    etag = fetcher.fetch("gs://photos/photo.jpg").etag
    with pytest.raises(NotModified):
        fetcher.fetch("gs://photos/photo.jpg", unless=etag)
    assert fetcher.fetch("gs://photos/photo.jpg", unless="0" * 32).data == PHOTO


def test_a_corrupt_body_is_never_accepted(server, fetcher):
    server.etags["photo.jpg"] = "0" * 32
    with pytest.raises(ObjectUnavailable, match="does not match the MD5") as caught:
        fetcher.fetch("gs://photos/photo.jpg")
    assert caught.value.kind == "unreachable"
    assert server.requests["GET photo.jpg"] == QUICK.attempts


def test_a_composed_object_has_no_md5_and_is_accepted(server, fetcher):
    server.etags["photo.jpg"] = "CKih16GjycICEAE="
    assert fetcher.fetch("gs://photos/photo.jpg").etag == "CKih16GjycICEAE="


def test_failures_have_the_same_kinds_as_on_s3(server, fetcher):
    server.faults |= {"secret.jpg": ["403 AccessDenied"], "away.jpg": ["503"] * 99}
    assert refusal(fetcher, "gs://photos/none.jpg") == "missing"
    assert refusal(fetcher, "gs://absent/none.jpg") == "no-bucket"
    assert refusal(fetcher, "gs://photos/secret.jpg") == "forbidden"
    assert refusal(fetcher, "gs://photos/away.jpg") == "unreachable"
    assert refusal(fetcher, "gs:///photo.jpg") == "bad-location"
    assert refusal(Fetcher(Stores(), max_bytes=10), "gs://photos/photo.jpg") == "too-large"
    assert server.requests["GET away.jpg"] == QUICK.attempts
    assert server.requests["GET none.jpg"] == 2


@pytest.mark.parametrize("key", ["a//b.jpg", "a/../photo.jpg", "/photo.jpg", "a/", "a\tb.jpg"])
def test_a_key_that_obstore_would_change_is_not_asked_for(server, fetcher, key):
    assert refusal(fetcher, f"gs://photos/{key}") == "bad-location"
    assert not server.requests


def test_refused_credentials_stop_the_job(server, fetcher):
    server.tokens = {"another"}
    with pytest.raises(StorageError, match="Google Cloud Storage refuses the credentials") as error:
        fetcher.fetch("gs://photos/photo.jpg")
    assert "\n" not in str(error.value)


def test_images_that_are_all_forbidden_stop_the_job(server, stores):
    fetcher = Fetcher(stores, max_bytes=10**6, in_succession=3)
    server.faults["secret.jpg"] = ["403 AccessDenied"] * 9
    for _ in range(2):
        assert refusal(fetcher, "gs://photos/secret.jpg") == "forbidden"
    with pytest.raises(StorageError, match="Google Cloud Storage denies access to every image"):
        fetcher.fetch("gs://photos/secret.jpg")


def test_images_of_another_store_do_not_show_that_this_one_is_there(server, stores, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"photo")
    server.faults["away.jpg"] = ["503"] * 99
    controls = [str(tmp_path / "a.jpg"), "gs://photos/away.jpg"]
    fetcher = Fetcher(stores, max_bytes=10**6, in_succession=1, controls=controls)
    with pytest.raises(StorageError, match="Google Cloud Storage is out of reach"):
        fetcher.fetch("gs://photos/away.jpg")
    fetcher = Fetcher(stores, max_bytes=10**6, in_succession=1, controls=["gs://photos/none.jpg"])
    assert refusal(fetcher, "gs://photos/away.jpg") == "unreachable"


def test_a_folder_holds_whole_objects(folder):
    names = [
        "_run/part-00001.parquet",
        "_run/poison-00001.json",
        "images-00000.parquet",
        "_SUCCESS",
    ]
    for name in names:
        folder.write(name, name.encode())
    assert folder.list() == {"images-00000.parquet": 20, "_SUCCESS": 8}
    assert list(folder.list("_run/")) == names[:2]
    assert list(folder.list("_run/part-")) == names[:1]
    assert list(folder.list("_")) == ["_SUCCESS"]
    assert folder.read("_SUCCESS") == b"_SUCCESS"
    with pytest.raises(ObjectMissing):
        folder.read("_run/none")
    folder.delete([*names[:2], "_run/none"])
    assert folder.list("_run/") == {}
    assert folder.location == "gs://results/night"


@pytest.mark.parametrize("fault", ["503", "reset"])
def test_writes_are_repeated(server, folder, fault):
    server.faults["night/a"] = [fault] * 3
    folder.write("a", b"whole")
    server.faults["night/a"] = [fault] * 3
    folder.delete(["a"])
    assert server.buckets["results"] == {}


def test_of_many_creators_one_wins_and_all_find_its_content(folder):
    barrier, won = threading.Barrier(8), []

    def create(number):
        barrier.wait()
        if folder.create("_run/identity.json", b"%d" % number):
            won.append(number)
        return folder.read("_run/identity.json")

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(create, range(8)))
    assert found == {b"%d" % won[0]}
    assert len(won) == 1


def test_a_creation_whose_answer_was_lost_is_not_made_twice(server, folder):
    server.faults["night/a"] = ["lost"]
    assert not folder.create("a", b"mine")
    assert folder.read("a") == b"mine"


def test_a_server_without_conditional_writes_is_refused(server, folder):
    server.conditional = False
    with pytest.raises(UnconditionalWrites, match="choose a store with conditional") as caught:
        folder.create("_run/identity.json", b"{}")
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_a_write_that_arrives_changed_is_noticed(server, folder):
    server.etags["night/a"] = "0" * 32
    with pytest.raises(StorageError, match="does not match the MD5 of what was sent"):
        folder.write("a", b"whole")


def test_a_walk_goes_on_where_a_page_failed(server, stores):
    keys = sorted((f"walk/{n % 7}/{n:04d} é.jpg" for n in range(2_500)), key=str.encode)
    server.buckets["results"] |= dict.fromkeys([*keys, "walk-2/other.jpg", "z.jpg"], b"")
    server.faults[""] = ["none", "503", "none", "reset", "cut"]
    assert list(stores.walk(ObjectLocation("results", "walk/", "gs"))) == keys
    assert list(stores.walk(ObjectLocation("results", "walk/3", "gs"))) == [
        key for key in keys if key.startswith("walk/3")
    ]
    everything = list(stores.walk(ObjectLocation("results", "", "gs")))
    assert everything == sorted([*keys, "walk-2/other.jpg", "z.jpg"], key=str.encode)


def test_a_walk_assumes_no_order(server, stores):
    # Azure's accounts with folders have an order of their own.
    keys = [f"{number:04d}.jpg" for number in range(2_500)]
    server.buckets["results"] |= dict.fromkeys(keys, b"")
    server.backwards, server.faults[""] = True, ["none", "none", "cut"]
    assert list(stores.walk(ObjectLocation("results", "", "gs"))) == keys[::-1]


def test_a_file_is_read_in_parts_of_one_version(server, stores):
    objects = server.buckets["photos"]
    server.faults["photo.jpg"] = ["503", "cut"]
    with open_pinned("gs://photos/photo.jpg", stores, block=1_000) as file:
        assert file.size == len(PHOTO)
        file.seek(50_000)
        assert file.read(3_000) == PHOTO[50_000:53_000]
        file.seek(-10, io.SEEK_END)
        assert file.read() == PHOTO[-10:]
        objects["photo.jpg"] = PHOTO[::-1]
        file.seek(70_000)
        with pytest.raises(StorageError, match=r"gs://photos/photo.jpg has changed"):
            file.read(3_000)
    with pytest.raises(ObjectUnavailable, match="no such object"):
        open_pinned("gs://photos/none.tar", stores)


def test_pictures_in_an_archive_are_listed_and_fetched(server, stores):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in ("1.jpg", "2.jpg"):
            member = tarfile.TarInfo(name)
            member.size = len(PHOTO)
            archive.addfile(member, io.BytesIO(PHOTO))
    server.buckets["photos"]["shards/0.tar"] = packed.getvalue()
    with open_list("gs://photos/shards/*.tar", stores=stores) as images:
        entries = list(images)
    fetcher = Fetcher(stores, max_bytes=10**6)
    assert [fetcher.fetch(entry.image, entry.inside).data for entry in entries] == [PHOTO] * 2


def test_a_bucket_that_does_not_exist_is_named(server, stores):
    with pytest.raises(StorageError, match="the bucket 'absent' does not exist at http://127"):
        stores.list(ObjectLocation("absent", "a/", "gs"))
    with pytest.raises(StorageError, match="the bucket 'absent' does not exist at http://127"):
        stores.delete([ObjectLocation("absent", "a", "gs")])
