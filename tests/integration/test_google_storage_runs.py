"""Whole jobs in Google Cloud Storage, from the command line, on a server with preconditions."""

import io
import subprocess
import sys

import pandas
import pytest
from typer.testing import CliRunner

from handler.values.errors import LocationError
from jobs.output.delta_options import storage_options
from jobs.storage.folders import UnconditionalWrites, open_folder
from jobs.storage.stores import Stores
from tests.jobs.gcs_server import google_storage
from vea.main import build_app

pytestmark = pytest.mark.integration

LIST = "gs://photos/night.csv"
NIGHT = "gs://results/nights/dt=2026-11-28"
FILE = "nights/dt=2026-11-28/images-00000.parquet"


@pytest.fixture
def server(monkeypatch, photo, encode):
    with google_storage("photos", "results") as running:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.endpoint)
        objects = running.buckets["photos"]
        for number in range(7):
            objects[f"night/{number}.jpg"] = encode(photo(number), "JPEG")
        rows = [f"gs://photos/night/{number}.jpg,{number % 2}" for number in range(8)]
        objects["night.csv"] = "\n".join(["image,author", *rows, ""]).encode()
        yield running


@pytest.fixture
def vea(tiny_model):
    def run(*command):
        if command[0] == "score":
            command += ("--model", str(tiny_model), "--workers", "0", "--chunk-size", "2")
        return CliRunner().invoke(build_app(), command)

    return run


def test_a_night_is_scored_once_reported_and_forgotten(server, vea):
    results = server.buckets["results"]
    server.faults["night/3.jpg"] = ["503", "cut"]
    first = vea("score", LIST, "--out", NIGHT)
    assert first.exit_code == 0, first.output
    whole = results[FILE]
    assert not [name for name in results if "/_run/part-" in name]
    assert vea("score", LIST, "--out", NIGHT).exit_code == 0
    assert results[FILE] == whole
    rows = pandas.read_parquet(io.BytesIO(whole))
    assert rows["status"].tolist() == ["ok"] * 7 + ["failed"]
    assert rows["reason_kind"][7] == "missing"
    assert rows["etag"][:7].str.len().eq(32).all()

    page = vea("report", NIGHT, "--html", "gs://results/reports/page.html")
    assert page.exit_code == 0, page.output
    assert b"<html" in results["reports/page.html"]
    gone = vea("forget", "gs://results/nights", "--where", "author=1", "--yes")
    assert gone.exit_code == 0, gone.output
    assert set(pandas.read_parquet(io.BytesIO(results[FILE]))["author"]) == {"0"}


def test_only_what_is_new_is_scored_on_the_next_night(server, vea, encode, photo):
    first = vea("score", LIST, "--out", NIGHT, "--once")
    assert first.exit_code == 0, first.output
    server.buckets["photos"]["night/7.jpg"] = encode(photo(7), "JPEG")
    out = "gs://results/nights/dt=2026-11-29"
    second = vea("score", LIST, "--out", out, "--since", "gs://results/nights", "--json")
    assert second.exit_code == 0, second.output
    rows = pandas.read_parquet(io.BytesIO(open_folder(out, Stores()).read("images-00000.parquet")))
    assert rows["status"].eq("ok").all()
    # The failed row of the night before is not copied.
    assert rows["scored_by_run"].notna().tolist() == [True] * 7 + [False]


def test_a_delta_table_lies_there_too(server, vea):
    assert vea("score", LIST, "--out", NIGHT).exit_code == 0
    # In a process of its own: the package lets no other thread run while it waits for the server.
    code = (
        "import sys; from jobs.output.delta import commit_run; from jobs.output.delta_erasure "
        "import count_rows; from jobs.output.selection import Selection; from jobs.storage.stores "
        "import Stores; out, table = sys.argv[1:]; stores = Stores()\n"
        "print([commit_run(out, table, stores) for _ in range(2)])\n"
        "print(count_rows(table, Selection.parse(['author=1'], []), stores))\n"
    )
    command = [sys.executable, "-c", code, NIGHT, "gs://results/table"]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert said.stdout == "[True, False]\n4\n", said.stderr


def test_a_table_that_could_lose_commits_is_refused_before_the_work(server, vea, tmp_path):
    server.conditional = False
    table = ["--out", str(tmp_path / "out"), "--delta", "gs://results/table"]
    refused = vea("score", LIST, *table).exception
    assert isinstance(refused, UnconditionalWrites)
    assert "for --delta" in str(refused)
    assert "\n" not in str(refused)
    assert server.requests["GET night/0.jpg"] == 0
    assert not any(key.startswith("table/") for key in server.buckets["results"])


def test_a_table_that_would_lie_elsewhere_is_refused(monkeypatch):
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_BASE_URL", "http://127.0.0.1:9")
    with pytest.raises(LocationError, match="does not reach the server of GOOGLE_BASE_URL"):
        storage_options("gs://results/table", Stores())


def test_a_folder_of_images_is_listed_and_resumed(server, vea):
    out = "gs://results/folder"
    server.faults["folder/_run/part-00002.parquet"] = ["403 AccessDenied"]
    first = vea("score", "gs://photos/night/", "--out", out)
    assert "denies access" in str(first.exception)
    # The part that could not be written is all that is left to do.
    server.requests.clear()
    second = vea("score", "gs://photos/night/", "--out", out)
    assert second.exit_code == 0, second.output
    assert server.requests["GET night/0.jpg"] == 0
    assert server.requests["GET night/4.jpg"] == 1
    rows = pandas.read_parquet(io.BytesIO(open_folder(out, Stores()).read("images-00000.parquet")))
    assert rows["image"].tolist() == [f"gs://photos/night/{number}.jpg" for number in range(7)]


def test_another_list_is_refused_in_the_folder_of_a_run(server, vea):
    assert vea("score", LIST, "--out", NIGHT).exit_code == 0
    server.buckets["photos"]["night.csv"] += b"gs://photos/night/0.jpg,1\n"
    assert "another" in str(vea("score", LIST, "--out", NIGHT).exception)


def test_without_conditional_writes_nothing_is_scored(server, vea):
    server.conditional = False
    refused = vea("score", LIST, "--out", NIGHT).exception
    assert isinstance(refused, UnconditionalWrites)
    assert refused.exit_code == 2
    assert server.requests["GET night/0.jpg"] == 0
    assert "\n" not in str(refused)
