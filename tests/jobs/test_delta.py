"""Nights that become commits of a Delta table, read back with Delta's own reader."""

import sys

import pyarrow as pa
import pytest
from finished_runs import emotions, failed, write_run
from part_rows import COLUMNS, MODEL

from jobs.output import delta
from jobs.output.delta import DeltaCommitError, commit_run, require_delta
from jobs.output.delta_options import storage_options
from jobs.storage.errors import StorageError
from jobs.storage.folders import open_folder
from jobs.storage.stores import Stores

deltalake = pytest.importorskip("deltalake")


@pytest.fixture
def s3():
    return Stores()


@pytest.fixture
def table(tmp_path):
    return str(tmp_path / "table")


def rows_of(table, *columns):
    read = deltalake.DeltaTable(table).to_pyarrow_table(columns=list(columns))
    return sorted(zip(*(column.to_pylist() for column in read.columns), strict=True))


def run(tmp_path, date, rows, version="1.1"):
    out = tmp_path / f"dt={date}" / f"model_version={version}"
    write_run(out, rows, rows_per_file=3)
    return str(out)


def test_every_run_is_one_commit_with_the_columns_of_its_path(tmp_path, s3, table):
    first = run(tmp_path, "2026-11-22", [*emotions(awe=4), failed("fetch", "missing")])
    second = run(tmp_path, "2026-11-23", emotions(fear=2))
    assert commit_run(first, table, s3)
    assert commit_run(second, table, s3)
    assert rows_of(table, "dt", "model_version", "position") == [
        *[("2026-11-22", "1.1", position) for position in range(5)],
        *[("2026-11-23", "1.1", position) for position in range(2)],
    ]
    found = deltalake.DeltaTable(table)
    assert [entry["operation"] for entry in found.history()] == ["WRITE", "WRITE", "CREATE TABLE"]
    assert found.metadata().partition_columns == ["dt", "model_version"]
    assert rows_of(table, "status").count(("failed",)) == 1


def test_a_run_is_committed_once_however_often_it_is_started(tmp_path, s3, table):
    out = run(tmp_path, "2026-11-22", emotions(awe=4))
    assert commit_run(out, table, s3)
    assert not commit_run(out, table, s3)
    assert deltalake.DeltaTable(table).version() == 1  # after its creation, 0
    assert len(rows_of(table, "position")) == 4


def test_a_day_that_was_scored_again_is_in_the_table_once(tmp_path, s3, table):
    commit_run(run(tmp_path / "a", "2026-11-22", emotions(awe=4)), table, s3)
    commit_run(run(tmp_path / "a", "2026-11-23", emotions(fear=1)), table, s3)
    again = tmp_path / "b" / "dt=2026-11-22" / "model_version=1.1"
    write_run(again, emotions(disgust=2), list_folder="/other")
    assert commit_run(str(again), table, s3)
    expected = [("2026-11-22", "disgust")] * 2 + [("2026-11-23", "fear")]
    assert rows_of(table, "dt", "emotion") == expected


def test_a_partition_can_go_back_to_a_run_that_was_replaced(tmp_path, s3, table):
    first, other = (tmp_path / name / "dt=2026-11-22" for name in ("a", "b"))
    write_run(first, emotions(awe=2))
    write_run(other, emotions(fear=1), list_folder="/other")
    assert [commit_run(str(out), table, s3) for out in (first, other, first, first)] == [
        *[True, True, True],
        False,
    ]
    assert rows_of(table, "emotion") == [("awe",)] * 2


def test_without_columns_in_the_path_runs_stand_side_by_side(tmp_path, s3, table):
    runs = []
    for name in ("a", "b"):
        manifest = write_run(tmp_path / name, emotions(awe=1), list_folder=f"/{name}")
        commit_run(str(tmp_path / name), table, s3)
        runs.append((manifest["run_id"], MODEL.version))
    assert rows_of(table, "run_id", "model_version") == sorted(runs)


def test_an_empty_run_empties_its_partition(tmp_path, s3, table):
    commit_run(run(tmp_path / "a", "2026-11-22", emotions(awe=4)), table, s3)
    again = tmp_path / "b" / "dt=2026-11-22" / "model_version=1.1"
    write_run(again, [], list_folder="/other")
    assert commit_run(str(again), table, s3)
    assert rows_of(table, "position") == []


def test_a_further_column_of_a_list_becomes_one_of_the_table(tmp_path, s3, table):
    commit_run(run(tmp_path, "2026-11-22", emotions(awe=1)), table, s3)
    columns = COLUMNS.append(pa.field("author", pa.string()))
    out = tmp_path / "dt=2026-11-23" / "model_version=1.1"
    write_run(out, [{**row, "author": "ann"} for row in emotions(awe=1)], columns=columns)
    commit_run(str(out), table, s3)
    assert rows_of(table, "dt", "author") == [("2026-11-22", None), ("2026-11-23", "ann")]


def test_a_run_that_is_not_finished_is_refused(tmp_path, s3, table):
    out = run(tmp_path, "2026-11-22", emotions(awe=1))
    (tmp_path / "dt=2026-11-22" / "model_version=1.1" / "_SUCCESS").unlink()
    with pytest.raises(DeltaCommitError, match="holds no finished run"):
        commit_run(out, table, s3)


def test_a_table_of_something_else_is_one_line(tmp_path, s3, table):
    deltalake.write_deltalake(table, pa.table({"dt": pa.array([1])}))
    out = run(tmp_path, "2026-11-22", emotions(awe=1))
    with pytest.raises(DeltaCommitError, match="rejects the run") as caught:
        commit_run(out, table, s3)
    assert "\n" not in str(caught.value)
    assert deltalake.DeltaTable(table).version() == 0


@pytest.mark.parametrize("place", [0, 1])
def test_a_damaged_file_is_named_and_the_table_is_not_blamed(tmp_path, s3, table, place):
    out = run(tmp_path, "2026-11-22", emotions(awe=7))
    file = sorted((tmp_path / "dt=2026-11-22" / "model_version=1.1").glob("*.parquet"))[place]
    file.write_bytes(b"damaged")
    with pytest.raises(DeltaCommitError, match=f"^{file.name} in .* is damaged") as caught:
        commit_run(out, table, s3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", [0, 1])
def test_an_error_of_s3_while_reading_stays_one(tmp_path, s3, table, place, monkeypatch):
    out = run(tmp_path, "2026-11-22", emotions(awe=7))
    folder = open_folder(out, s3)
    read = folder.read

    def fail(name):
        if name == f"images-{place:05}.parquet":
            raise StorageError("the bucket is out of reach")
        return read(name)

    monkeypatch.setattr(folder, "read", fail)
    monkeypatch.setattr(delta, "open_folder", lambda out, s3: folder)
    with pytest.raises(StorageError, match=r"^the bucket is out of reach$"):
        commit_run(out, table, s3)


def test_a_folder_that_can_be_no_partition_is_refused(tmp_path, s3, table):
    out = tmp_path / "run=it's"
    write_run(out, emotions(awe=1))
    with pytest.raises(DeltaCommitError, match="cannot be a partition"):
        commit_run(str(out), table, s3)


def test_the_missing_package_is_told_before_the_run(monkeypatch):
    monkeypatch.setitem(sys.modules, "deltalake", None)
    with pytest.raises(DeltaCommitError, match=r"pip install 'vea\[delta\]'"):
        require_delta()


def test_where_a_bucket_is_part_of_the_hosts_name_delta_is_told_so(monkeypatch):
    # As on AWS itself; the S3 server of the other tests takes the bucket as a folder.
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    options = storage_options("s3://my-bucket/tables/emotions", Stores())
    assert options["AWS_ENDPOINT_URL"] == "https://my-bucket.s3.eu-central-1.amazonaws.com"
    assert options["AWS_VIRTUAL_HOSTED_STYLE_REQUEST"] == "true"
