"""Jobs between containers of Azurite, Microsoft's emulator of Azure Blob Storage."""

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pandas
import pytest
from azurite_account import connection_string
from fault_proxy import faults_before
from typer.testing import CliRunner

from jobs.fetching.fetcher import Fetcher
from jobs.storage.errors import NotModified, ObjectUnavailable, StorageError
from jobs.storage.folders import ObjectMissing, StoreFolder, open_folder
from jobs.storage.pinned import open_pinned
from jobs.storage.stores import Stores
from jobs.values.job import RetrySettings
from jobs.values.locations import ObjectLocation
from vea.main import build_app

pytest_plugins = ["azurite_server"]
pytestmark = pytest.mark.integration

PATIENT = RetrySettings(attempts=9, base=0.05, cap=1.0)
ODD = "odd/a b c?#%41é*~+&=.jpg"


def at(container, key):
    return ObjectLocation(container, key, "az")


def vea(*command):
    ended = CliRunner().invoke(build_app(), command)
    assert ended.exit_code == 0, (ended.output, ended.exception)
    return ended


@pytest.fixture
def folder(azure):
    return StoreFolder(f"az://results/{uuid.uuid4().hex}", Stores())


def test_a_folder_holds_whole_objects_and_creates_each_once(folder):
    assert folder.create("_run/identity.json", b"first")
    assert not folder.create("_run/identity.json", b"second")
    assert folder.read("_run/identity.json") == b"first"
    folder.write("_run/identity.json", b"third")
    folder.write("_SUCCESS", b"")
    assert folder.list("_run/") == {"_run/identity.json": 5}
    assert folder.list("_") == {"_SUCCESS": 0}
    with pytest.raises(ObjectMissing):
        folder.read("none")
    many = [f"_run/part-{index:05d}.parquet" for index in range(300)]
    for name in many[::100]:
        folder.write(name, b"")
    folder.delete(many)  # most of them are not there
    assert list(folder.list("_run/")) == ["_run/identity.json"]


def test_real_answers_are_sorted(azure):
    stores = Stores()
    stores.put(at("photos", ODD), b"photo")
    fetcher = Fetcher(stores, max_bytes=5)
    fetched = fetcher.fetch(f"az://photos/{ODD}")
    assert fetched.data == b"photo"
    assert fetched.etag.startswith("0x")
    with pytest.raises(NotModified):
        fetcher.fetch(f"az://photos/{ODD}", unless=fetched.etag)
    assert fetcher.fetch(f"az://photos/{ODD}", unless="0x1").data == b"photo"
    stores.put(at("photos", "large.jpg"), bytes(6))
    for location, kind in (
        ("az://photos/large.jpg", "too-large"),
        ("az://photos/none.jpg", "missing"),
        ("az://absent/a.jpg", "no-bucket"),
    ):
        with pytest.raises(ObjectUnavailable) as caught:
            fetcher.fetch(location)
        assert caught.value.kind == kind
    with pytest.raises(StorageError, match="the container 'absent' does not exist"):
        list(stores.walk(at("absent", "")))


def test_a_file_is_read_in_parts_of_one_version(azure):
    stores, content = Stores(), bytes(range(256)) * 400
    stores.put(at("photos", "big.tar"), content)
    with open_pinned("az://photos/big.tar", stores, block=1_000) as file:
        file.seek(50_000)
        assert file.read(3_000) == content[50_000:53_000]
        stores.put(at("photos", "big.tar"), content[::-1])
        file.seek(70_000)
        with pytest.raises(StorageError, match=r"az://photos/big.tar has changed"):
            file.read(3_000)
    stores.put(at("photos", "empty.tar"), b"")
    assert open_pinned("az://photos/empty.tar", stores).size == 0


def test_a_wrong_key_stops_the_job_at_once(azure, monkeypatch):
    wrong = connection_string(azure).replace("AccountKey=Eby8", "AccountKey=Eby9")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", wrong)
    with pytest.raises(StorageError, match="Azure Blob Storage refuses the credentials") as caught:
        Fetcher(Stores(), max_bytes=5).fetch("az://photos/a.jpg")
    assert "\n" not in str(caught.value)
    with pytest.raises(StorageError, match="Azure Blob Storage refuses the credentials"):
        Stores().put(at("photos", "a.jpg"), b"")


def test_every_image_arrives_whole_through_a_bad_network(azure, monkeypatch):
    made = {}
    for number in range(60):
        chooser = random.Random(number)
        made[f"faults/{number:03d} ü+?.jpg"] = chooser.randbytes(chooser.randrange(1, 100_000))
    shares = {"slowdown": 0.15, "reset": 0.03, "cut": 0.03, "lost": 0.03}
    with faults_before(azure, seed=7, **shares) as origin:
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection_string(origin))
        stores = Stores(retry=PATIENT)
        for key, content in made.items():
            stores.put(at("photos", key), content)
        assert list(stores.walk(at("photos", "faults/"))) == sorted(made, key=str.encode)
        fetcher = Fetcher(stores, max_bytes=10**6)
        with ThreadPoolExecutor(8) as pool:
            fetched = list(pool.map(fetcher.fetch, (f"az://photos/{key}" for key in made)))
        stores.delete(at("photos", key) for key in made)
        assert list(stores.walk(at("photos", "faults/"))) == []
    assert [item.data for item in fetched] == list(made.values())


@pytest.fixture
def listed(azure, photo, encode):
    """A list of twelve images, one of which is not there."""
    stores = Stores()
    names = [f"night/{number:02d}.jpg" for number in range(11)]
    for number, name in enumerate(names):
        stores.put(at("photos", name), encode(photo(number), "JPEG"))
    rows = [f"az://photos/{name},{i % 2}" for i, name in enumerate([*names, "night/none.jpg"])]
    stores.put(at("photos", "night.csv"), "\n".join(["image,author", *rows, ""]).encode())
    return "az://photos/night.csv"


@pytest.mark.long
def test_a_run_that_is_killed_in_a_bad_network_ends_with_the_same_bytes(
    azure, listed, tiny_model, monkeypatch
):
    root = f"az://results/{uuid.uuid4().hex}"
    options = ["--model", str(tiny_model), "--workers", "0", "--chunk-size", "1"]
    vea("score", listed, "--out", f"{root}/whole", *options)
    with faults_before(azure, seed=3, slowdown=0.15, reset=0.02, cut=0.02, lost=0.02) as origin:
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection_string(origin))
        command = [sys.executable, "-m", "vea", "score", listed, "--out", f"{root}/killed"]
        first = subprocess.Popen([*command, *options], stderr=subprocess.DEVNULL)
        parts = open_folder(f"{root}/killed", Stores(retry=PATIENT))
        end = time.monotonic() + 100
        while len(parts.list("_run/part-")) < 3 and time.monotonic() < end:
            time.sleep(0.05)
        os.kill(first.pid, signal.SIGKILL)
        assert first.wait() == -signal.SIGKILL
        found = json.loads(vea(*command[3:], *options, "--json").stdout)
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection_string(azure))
    assert found["complete"]
    assert found["parts_skipped"] >= 3
    whole, killed = (open_folder(f"{root}/{name}", Stores()) for name in ("whole", "killed"))
    assert killed.read("images-00000.parquet") == whole.read("images-00000.parquet")
    assert list(killed.list("_run/")) == ["_run/identity.json"]


def test_readers_of_a_night_find_it_there(listed, tiny_model, tmp_path):
    root = f"az://results/{uuid.uuid4().hex}"
    night, table = f"{root}/nights/dt=2026-11-28", f"{root}/table"
    options = ["--model", str(tiny_model), "--workers", "0", "--delta", table]
    vea("score", "az://photos/night/", "--out", f"{root}/folder", *options[:4])
    vea("score", listed, "--out", night, *options)
    assert "holds this run already" in vea("score", listed, "--out", night, *options).stderr

    page = f"{root}/reports/page.html"
    vea("report", night, "--html", page, "--thumbnails", "--json", str(tmp_path / "figures.json"))
    assert json.loads((tmp_path / "figures.json").read_text())["night"]["images"] == 12
    stored = open_folder(f"{root}/reports", Stores()).read("page.html").decode()
    assert "data:image/jpeg" in stored

    vea("forget", f"{root}/nights", "--where", "author=1", "--delta", table, "--vacuum", "--yes")
    rows = pandas.read_parquet(
        io.BytesIO(open_folder(night, Stores()).read("images-00000.parquet"))
    )
    assert set(rows["author"]) == {"0"}
    vea("score", listed, "--out", f"{root}/nights/dt=2026-11-29", *options)
    vea("retain", f"{root}/nights", "--days", "36500", "--delta", table, "--yes")
