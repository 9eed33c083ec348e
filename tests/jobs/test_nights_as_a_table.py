"""Five nights of one producer, whose values alone vary, read as one table."""

import json
from dataclasses import replace

import duckdb
import pandas
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
import pytest

from handler.values.errors import VeaError
from jobs.lists.columns import ListError
from jobs.lists.image_list import open_list
from jobs.output.ledger import LedgerError
from jobs.output.root_schema import SchemaError, root_of
from jobs.run.driver import score_list
from jobs.values.job import ScoreJob

COLUMNS = {"post": "int64", "score": "double", "tag": "string", "geo": "string"}
NIGHTS = {
    "2026-11-01": [{"post": 1, "score": 1, "tag": None, "geo": {"lat": 1.0}}],
    "2026-11-02": [{"post": 2, "score": 0.5, "tag": "x", "geo": None}],
    "2026-11-03": [{"post": 3, "score": None, "tag": "y"}],
    "2026-11-04": [{"post": 4, "score": 2, "tag": 7, "geo": None, "extra": True}],
    "2026-11-05": [],
}
EXPECTED = [
    (1, 1.0, None, '{"lat": 1.0}'),
    (2, 0.5, "x", None),
    (3, None, "y", None),
    (4, 2.0, "7", None),
]


@pytest.fixture
def lists(tmp_path, jpeg):
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    for date, rows in NIGHTS.items():
        lines = [json.dumps({"image": "a.jpg", **row}) + "\n" for row in rows]
        (tmp_path / f"{date}.jsonl").write_text("".join(lines))
    return tmp_path


@pytest.fixture
def declared(tmp_path):
    (tmp_path / "columns.json").write_text(json.dumps(COLUMNS))
    return str(tmp_path / "columns.json")


@pytest.fixture
def night(lists, archive, predictor):
    """Scores one night; gives what was warned of."""
    warned = []

    def run(date, **options):
        job = ScoreJob(
            image_list=str(lists / f"{date}.jsonl"),
            out=str(lists / "results" / f"dt={date}"),
            model=archive,
        )
        warned.clear()
        score_list(replace(job, **options), load=predictor.load, warn=warned.append)
        return list(warned)

    return run


def by_pandas(root):
    frame = pandas.read_parquet(root).sort_values("dt")[list(COLUMNS)]
    return frame.astype(object).where(frame.notna(), None).itertuples(index=False, name=None)


def by_pyarrow_dataset(root):
    table = pyarrow.dataset.dataset(root, partitioning="hive").to_table()
    rows = table.sort_by("dt").select(list(COLUMNS)).to_pylist()
    return [tuple(row.values()) for row in rows]


def by_pyarrow_parquet(root):
    rows = sorted(pyarrow.parquet.read_table(root).to_pylist(), key=lambda row: row["dt"])
    return [tuple(row[name] for name in COLUMNS) for row in rows]


def by_duckdb(root):
    files = f"read_parquet('{root}/*/*.parquet', hive_partitioning=true)"
    return duckdb.sql(f"select {', '.join(COLUMNS)} from {files} order by dt").fetchall()


def by_polars(root):
    polars = pytest.importorskip("polars")
    frame = polars.scan_parquet(f"{root}/*/*.parquet", hive_partitioning=True)
    return frame.sort("dt").select(list(COLUMNS)).collect().rows()


def by_spark(root):
    sql = pytest.importorskip("pyspark.sql")
    session = sql.SparkSession.builder.master("local[1]").getOrCreate()
    rows = session.read.parquet(root).orderBy("dt").select(*COLUMNS).collect()
    return [tuple(row) for row in rows]


READERS = [by_pandas, by_pyarrow_dataset, by_pyarrow_parquet, by_duckdb, by_polars, by_spark]


def test_nights_of_declared_columns_are_one_table_for_every_reader(night, lists, declared):
    warned = [night(date, schema=declared) for date in NIGHTS]
    assert [len(lines) for lines in warned] == [0, 0, 0, 1, 0]
    assert warned[3][0].startswith("left out of the result: extra, which ")
    files = sorted((lists / "results").glob("*/*.parquet"))
    assert len({pyarrow.parquet.read_schema(file).remove_metadata() for file in files}) == 1
    skipped = []
    for reader in READERS:
        try:
            assert list(reader(str(lists / "results"))) == EXPECTED, reader.__name__
        except pytest.skip.Exception:
            skipped.append(reader.__name__)
    assert set(skipped) <= {"by_polars", "by_spark"}


def test_later_nights_need_no_declaration(night, lists, declared):
    night("2026-11-01", schema=declared)
    for date in list(NIGHTS)[1:]:
        night(date)
    assert list(by_pyarrow_dataset(str(lists / "results"))) == EXPECTED


def test_a_value_that_the_nights_before_have_no_place_for_is_refused(night, lists):
    night("2026-11-01")
    kept = json.loads((lists / "results" / "_schema.json").read_text())
    assert kept == {"post": "int64", "score": "int64", "tag": "string", "geo": "string"}
    with pytest.raises(ListError, match=r"row 1 .* '0\.5' in the column 'score'") as caught:
        night("2026-11-02")
    assert "_schema.json says int64" in str(caught.value)
    assert not list((lists / "results" / "dt=2026-11-02").iterdir())
    # What fits goes on, and an empty night has the columns.
    night("2026-11-05")
    night("2026-11-04")
    assert list(by_pyarrow_dataset(str(lists / "results"))) == [
        (1, 1, None, '{"lat": 1.0}'),
        (4, 2, "7", None),
    ]


def test_a_declaration_that_the_nights_before_contradict_is_refused(night, declared):
    night("2026-11-01")
    with pytest.raises(SchemaError, match=r"double for the column 'score' .* have int64"):
        night("2026-11-02", schema=declared)


def test_a_night_that_is_started_again_is_the_same_run(night, lists, declared):
    night("2026-11-04", schema=declared)
    night("2026-11-04")
    (lists / "results" / "_schema.json").write_text(json.dumps({"post": "double"}))
    with pytest.raises(LedgerError, match="types of these columns"):
        night("2026-11-04")


def test_without_a_root_only_the_list_counts(night, lists):
    for date in list(NIGHTS)[:2]:
        assert night(date, out=str(lists / "out" / date)) == []
    assert not list(lists.rglob("_schema.json"))


@pytest.mark.parametrize(
    ("out", "root"),
    [
        ("s3://results/dt=2026-11-01/model_version=1", "s3://results"),
        ("s3://results/vea/dt=2026-11-01", "s3://results/vea"),
        ("/data/dt=1", "/data"),
        ("dt=1", "."),
        ("s3://results/2026-11-01", None),
        ("s3://results/=a/b=", None),
    ],
)
def test_the_root_lies_above_the_folders_that_give_columns(out, root):
    assert root_of(out) == root


@pytest.mark.parametrize(
    ("content", "said"),
    [("[]", "not a JSON object"), ("{", "not a JSON object"), ('{"a": "number"}', "no type")],
)
def test_a_declaration_that_cannot_be_read_is_one_line(night, lists, content, said):
    (lists / "bad.json").write_text(content)
    with pytest.raises(ListError, match=said):
        night("2026-11-01", schema=str(lists / "bad.json"))
    with pytest.raises(ListError, match="there is no such file"):
        night("2026-11-01", schema=str(lists / "none.json"))


@pytest.mark.parametrize(
    ("kind", "cell", "value"),
    [
        ("string", "007", "007"),
        ("int64", "7", 7),
        ("double", "0.5", 0.5),
        ("bool", "True", True),
        ("int64", "0.5", VeaError),
        ("double", "x", VeaError),
        ("bool", "yes", VeaError),
        ("int8", "300", VeaError),
    ],
)
def test_cells_of_a_table_get_the_declared_type(tmp_path, kind, cell, value):
    (tmp_path / "list.csv").write_text(f"image,x\na.jpg,{cell}\n")
    if value is VeaError:
        with (
            pytest.raises(ListError, match="row 1 of the list"),
            open_list(str(tmp_path / "list.csv"), types={"x": kind}),
        ):
            pass
        return
    with open_list(str(tmp_path / "list.csv"), types={"x": kind}) as images:
        assert [entry.extra for entry in images] == [(value,)]
        assert images.extra.field("x").type == pa.type_for_alias(kind)


def test_a_parquet_list_is_widened_or_refused(tmp_path):
    path = str(tmp_path / "list.parquet")
    pyarrow.parquet.write_table(
        pa.table({"image": ["a.jpg"], "n": pa.array([2**53 + 1], pa.int64())}), path
    )
    with open_list(path, types={"n": "int64", "at": "timestamp[us]"}) as images:
        assert [entry.extra for entry in images] == [(2**53 + 1, None)]
        assert images.extra.field("at").type == pa.timestamp("us")
    for kind in ("double", "timestamp[us]"):
        with (
            pytest.raises(ListError, match="in the column 'n' where --schema says"),
            open_list(path, types={"n": kind}),
        ):
            pass
