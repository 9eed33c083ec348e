"""`vea forget` and `vea retain` on S3, with a Delta table there."""

import io
import json

import duckdb
import pandas as pd
import pytest
from typer.testing import CliRunner

from vea.main import build_app

pytest_plugins = ["s3_server"]
pytestmark = pytest.mark.integration

deltalake = pytest.importorskip("deltalake")
TABLE = "s3://results/tables/forget"
ROOT = "s3://results/forget"


def vea(*arguments):
    ended = CliRunner().invoke(build_app(), [str(argument) for argument in arguments])
    assert ended.exit_code == 0, ended.output
    return ended.stdout


@pytest.fixture
def runs(s3, photo, encode, tiny_model):
    """Two runs of three photos by two authors, on S3 and in a Delta table."""
    for n in range(3):
        s3.put_object(Bucket="photos", Key=f"forget/{n}.jpg", Body=encode(photo(n), "JPEG"))
    lines = [f"s3://photos/forget/{n}.jpg,{author}" for n, author in enumerate("aba")]
    listed = "\n".join(["image,author", *lines]) + "\n"
    s3.put_object(Bucket="photos", Key="forget.csv", Body=listed.encode())
    for date in ("2026-11-20", "2026-11-21"):
        vea(
            *("score", "s3://photos/forget.csv", "--out", f"{ROOT}/dt={{date}}", "--date", date),
            *("--model", tiny_model, "--workers", "0", "--delta", TABLE),
        )


def authors(s3, date):
    body = s3.get_object(Bucket="results", Key=f"forget/dt={date}/images-00000.parquet")["Body"]
    return pd.read_parquet(io.BytesIO(body.read()))["author"].tolist()


def in_table(s3_server):
    options = {
        "AWS_ENDPOINT_URL": s3_server.endpoint,
        "AWS_ACCESS_KEY_ID": s3_server.access_key,
        "AWS_SECRET_ACCESS_KEY": s3_server.secret_key,
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }
    table = deltalake.DeltaTable(TABLE, storage_options=options)
    rows = duckdb.from_arrow(table.to_pyarrow_table())
    return rows.aggregate("dt, author, count(*)").order("all").fetchall()


def test_rows_leave_the_runs_and_the_table_and_old_runs_go_whole(runs, s3, s3_server):
    forget = ("forget", ROOT, "--where", "author=a", "--delta", TABLE)
    assert "4 rows of 6 in 2 runs" in vea(*forget)
    assert authors(s3, "2026-11-20") == ["a", "b", "a"]
    vea(*forget, "--vacuum", "--yes")
    assert authors(s3, "2026-11-20") == authors(s3, "2026-11-21") == ["b"]
    manifest = json.loads(
        s3.get_object(Bucket="results", Key="forget/dt=2026-11-20/_manifest.json")["Body"].read()
    )
    assert (manifest["rows"], manifest["removed"]["rows"]) == (1, 2)
    assert in_table(s3_server) == [("2026-11-20", "b", 1), ("2026-11-21", "b", 1)]

    vea(
        *("retain", ROOT, "--days", "1", "--date", "2026-11-22"),
        *("--delta", TABLE, "--vacuum", "--yes"),
    )
    left = s3.list_objects_v2(Bucket="results", Prefix="forget/")["Contents"]
    # The columns of the nights to come stay beside them.
    assert {item["Key"].split("/")[1] for item in left} == {"_schema.json", "dt=2026-11-21"}
    assert in_table(s3_server) == [("2026-11-21", "b", 1)]
