"""`--columns`, `--embeddings` and `--dry-run` between buckets of a real S3 server."""

from __future__ import annotations

import io
import json
import uuid
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs.output.chosen_columns import ALWAYS
from tests.program import vea

pytest_plugins = ["s3_server"]
pytestmark = pytest.mark.integration


@pytest.fixture
def listed(s3, photo, encode) -> str:
    """A list in a bucket of four photos there, of which one is missing."""
    root = uuid.uuid4().hex
    for number in range(3):
        s3.put_object(
            Bucket="photos", Key=f"{root}/{number}.png", Body=encode(photo(number), "PNG")
        )
    lines = "".join(f"s3://photos/{root}/{number}.png,{number}\n" for number in range(4))
    s3.put_object(Bucket="photos", Key=f"{root}/list.csv", Body=f"image,post\n{lines}".encode())
    return f"s3://photos/{root}/list.csv"


def keys_in(s3, root: str) -> list[str]:
    found = s3.list_objects_v2(Bucket="results", Prefix=root).get("Contents", [])
    return [item["Key"] for item in found]


def test_a_night_is_planned_scored_and_the_next_one_estimated(
    s3, listed: str, tiny_model: Path
) -> None:
    root = uuid.uuid4().hex
    command = ["score", listed, "--model", tiny_model, "--workers", 1, "--json", "--chunk-size", 2]
    rows = ["--embeddings", "--columns", "post,embedding,etag"]

    def night(day: int, *more: object) -> dict[str, object]:
        done = vea(*command, "--out", f"s3://results/{root}/dt=2026-11-{day}", *rows, *more)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    plan = night(22, "--dry-run")
    assert keys_in(s3, root) == []
    bucket = "/".join(listed.split("/")[:3])
    assert (plan["rows"], plan["sources"], plan["estimated_seconds"]) == (4, {bucket: 4}, None)
    summary = night(22)
    assert (summary["run_id"], summary["ok"]) == (plan["run_id"], 3)
    (name,) = [key for key in keys_in(s3, root) if key.endswith(".parquet")]
    body = s3.get_object(Bucket="results", Key=name)["Body"].read()
    table = pq.read_table(io.BytesIO(body))
    assert table.column_names == [*ALWAYS, "post", "embedding", "etag"] == list(plan["columns"])
    assert [row is None for row in table["embedding"].to_pylist()] == [False, False, False, True]
    before = keys_in(s3, root)
    following = night(23, "--dry-run", "--price-per-hour", "1 EUR")
    assert keys_in(s3, root) == before
    rate = following["rate"]
    assert rate["location"] == f"s3://results/{root}/dt=2026-11-22"
    assert following["estimated_seconds"] == pytest.approx(4 / rate["images_per_second"])
    assert following["estimated_cost"] == pytest.approx(following["estimated_seconds"] / 3600)
    again = night(22, "--dry-run")
    assert (again["state"], again["images"]) == ("finished", 0)
