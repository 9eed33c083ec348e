"""`vea score --delta`: a night on S3 becomes one commit of a Delta table on S3."""

from concurrent.futures import ThreadPoolExecutor

import duckdb
import pytest
from typer.testing import CliRunner

from jobs.output.delta import commit_run
from jobs.storage.stores import Stores
from vea.main import build_app

pytest_plugins = ["s3_server"]
pytestmark = pytest.mark.integration

deltalake = pytest.importorskip("deltalake")
TABLE = "s3://results/tables/emotions"
OUT = "s3://results/delta/dt={date}"


@pytest.fixture
def options(s3_server):
    return {
        "AWS_ENDPOINT_URL": s3_server.endpoint,
        "AWS_ACCESS_KEY_ID": s3_server.access_key,
        "AWS_SECRET_ACCESS_KEY": s3_server.secret_key,
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }


@pytest.fixture
def score(s3, photo, encode, tiny_model):
    images = [f"delta/{n}.jpg" for n in range(3)]
    for n, name in enumerate(images):
        s3.put_object(Bucket="photos", Key=name, Body=encode(photo(n), "JPEG"))
    listed = "".join(f"s3://photos/{name}\n" for name in [*images, "delta/none.jpg"])
    s3.put_object(Bucket="photos", Key="delta.txt", Body=listed.encode())

    def run(date):
        named = ["--model", str(tiny_model), "--out", OUT, "--date", date, "--workers", "0"]
        command = ["score", "s3://photos/delta.txt", *named, "--delta", TABLE]
        ended = CliRunner().invoke(build_app(), command)
        assert ended.exit_code == 0, ended.output
        return ended.stderr

    return run


def test_nights_are_commits_and_a_second_start_adds_nothing(score, options):
    said = [score(date) for date in ("2026-11-22", "2026-11-23", "2026-11-23")]
    assert ["holds this run already" in one for one in said] == [False, False, True]
    table = deltalake.DeltaTable(TABLE, storage_options=options)
    assert table.version() == 2  # 0 is its creation
    rows = duckdb.from_arrow(table.to_pyarrow_table())
    assert rows.aggregate("dt, status, count(*)").order("all").fetchall() == [
        ("2026-11-22", "failed", 1),
        ("2026-11-22", "ok", 3),
        ("2026-11-23", "failed", 1),
        ("2026-11-23", "ok", 3),
    ]


def test_starts_that_commit_the_same_night_at_once_commit_it_once(score, options, s3):
    score("2026-11-20")
    twin = "s3://results/tables/twin"
    with ThreadPoolExecutor(4) as pool:
        out = OUT.format(date="2026-11-20")
        done = list(pool.map(lambda _: commit_run(out, twin, Stores()), range(4)))
    assert done.count(True) == 1
    assert deltalake.DeltaTable(twin, storage_options=options).to_pyarrow_table().num_rows == 4
