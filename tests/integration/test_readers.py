"""What users read results with must read them: one file, one night, and the root of all nights.

The nights here are scored by different models, and their folders say so, as in the README.
"""

import json
import shutil

import duckdb
import pandas
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from handler.values.emotions import MIKELS
from handler.values.prediction import ModelIdentity
from jobs.output import parquet
from jobs.output.ledger import Ledger
from jobs.storage.folders import LocalFolder
from jobs.values.chunks import Chunk, RunIdentity
from jobs.values.layout import part_name

pytestmark = pytest.mark.integration

# A version that looks like a whole number, and one that looks like a fraction: readers guess types.
NIGHTS = {"2026-11-22": "1", "2026-11-23": "1.1"}
ROWS = 5
EXTRA = pa.schema([("sku", pa.string()), ("price", pa.float64())])
BOX = {"x1": 1.0, "y1": 2.0, "x2": 3.0, "y2": 4.0, "label": "dog", "score": 0.5, "attention": 0.25}


def row(position, date, version, run_id):
    origin = {
        "position": position,
        "image": f"{date}/{position}.jpg",
        "model_name": "vea-lite",
        "model_version": version,
        "model_digest": "d",
        "run_id": run_id,
        "sku": f"00{position}",
    }
    if position == 2:
        why = {"stage": "fetch", "reason_kind": "missing", "reason": "there is no such object"}
        return {**origin, "status": "failed", **why}
    scored = {"status": "ok", "emotion": "awe", "p_awe": 1.0, "objects": 1, "boxes": [BOX]}
    return {**origin, **scored, "price": 1.5, "etag": f"e{position}"}


def score_night(out, date, version):
    identity = RunIdentity(
        list_sha256=date,
        list_folder=None,
        column=None,
        keep=tuple(EXTRA.names),
        model_digest="d",
        chunk_size=2,
        max_bytes=1,
        max_pixels=1,
        boxes=True,
        hosts=(),
    )
    folder, columns = LocalFolder(str(out)), parquet.schema(MIKELS.labels, extra=EXTRA, boxes=True)
    book = Ledger(folder, identity)
    book.claim()
    names = []
    for index, start in enumerate(range(0, ROWS, 2)):
        stop = min(start + 2, ROWS)
        rows = [row(position, date, version, identity.run_id) for position in range(start, stop)]
        names.append(part_name(Chunk(index, start, ())))
        folder.write(names[-1], parquet.encode(rows, columns))
    kept = {name: folder.read(name) for name in names}
    model = ModelIdentity("vea-lite", version, "d")
    book.finish(names, model=model, list_location="list.csv", facts={}, rows_per_file=3)
    return kept


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("emotions")
    for date, version in NIGHTS.items():
        score_night(root / f"dt={date}" / f"model_version={version}", date, version)
    return root


@pytest.fixture(scope="module")
def night(root):
    return root / "dt=2026-11-23" / "model_version=1.1"


IMAGES = sorted(f"{date}/{position}.jpg" for date in NIGHTS for position in range(ROWS))


def test_pandas_reads_all_nights(root):
    frame = pandas.read_parquet(root)
    assert sorted(frame["image"]) == IMAGES
    versions = dict(zip(frame["dt"].astype(str), frame["model_version"].astype(str), strict=True))
    assert versions == NIGHTS
    assert frame["status"].value_counts().to_dict() == {"ok": 8, "failed": 2}
    assert set(frame["sku"]) == {"000", "001", "002", "003", "004"}


def test_pandas_reads_a_night_and_a_file(night):
    frame = pandas.read_parquet(night)
    assert frame["position"].tolist() == list(range(ROWS))
    one = pandas.read_parquet(night / "images-00001.parquet")
    assert one["position"].tolist() == [3, 4]
    assert one["boxes"][0][0] == BOX


def test_pyarrow_reads_all_nights_and_only_the_files_that_it_needs(root, night):
    dataset = ds.dataset(root, partitioning="hive")
    assert sorted(dataset.to_table()["image"].to_pylist()) == IMAGES
    chosen = ds.field("model_version") == "1.1"
    found = dataset.to_table(filter=chosen)
    assert found["image"].to_pylist() == [f"2026-11-23/{position}.jpg" for position in range(ROWS)]
    read = {str(night / f"images-0000{i}.parquet") for i in range(2)}
    assert {fragment.path for fragment in dataset.get_fragments(chosen)} == read
    assert ds.dataset(night).to_table()["position"].to_pylist() == list(range(ROWS))


def test_duckdb_reads_all_nights_a_night_and_a_file(root, night):
    everything = f"read_parquet('{root}/**/images-*.parquet', hive_partitioning = true)"
    images = duckdb.sql(f"select image from {everything} order by image").fetchall()
    assert [image for (image,) in images] == IMAGES
    query = f"select distinct dt::text, model_version::text from {everything} order by 1"
    assert duckdb.sql(query).fetchall() == sorted(NIGHTS.items())
    query = f"select count(*) from '{night}/images-*.parquet' where status = 'ok'"
    assert duckdb.sql(query).fetchall() == [(4,)]
    query = f"select boxes[1].label, price from '{night}/images-00000.parquet' where position = 0"
    assert duckdb.sql(query).fetchall() == [("dog", 1.5)]


def test_nobody_sees_rows_twice_while_parts_are_still_there(tmp_path):
    """As after a kill between the last write and the deletion of the parts."""
    night = tmp_path / "dt=2026-11-23" / "model_version=1.1"
    for name, data in score_night(night, "2026-11-23", "1.1").items():
        (night / name).write_bytes(data)
    assert len(pandas.read_parquet(tmp_path)) == ROWS
    assert ds.dataset(tmp_path, partitioning="hive").count_rows() == ROWS
    query = f"select count(*) from read_parquet('{tmp_path}/**/images-*.parquet')"
    assert duckdb.sql(query).fetchall() == [(ROWS,)]


def test_the_manifest_names_the_files(night):
    manifest = json.loads((night / "_manifest.json").read_text())
    files = [night / file["name"] for file in manifest["files"]]
    assert ds.dataset([str(file) for file in files]).count_rows() == manifest["rows"] == ROWS


@pytest.fixture(scope="module")
def spark():
    sql = pytest.importorskip("pyspark.sql", reason="pyspark is not installed")
    if not shutil.which("java"):
        pytest.skip("Spark needs Java")
    settings = {
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.shuffle.partitions": "1",
        # Or it takes the version 1.10 for the number 1.1.
        "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
    }
    builder = sql.SparkSession.builder.master("local[1]")
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    yield session
    session.stop()


def test_spark_reads_all_nights_a_night_and_a_file(spark, root, night):
    frame = spark.read.parquet(str(root))
    assert sorted(row.image for row in frame.select("image").collect()) == IMAGES
    found = frame.select("dt", "model_version").distinct().collect()
    assert {row.dt: row.model_version for row in found} == NIGHTS
    assert spark.read.parquet(str(night)).where("status = 'ok'").count() == 4
    one = spark.read.parquet(str(night / "images-00000.parquet"))
    assert one.where("position = 0").collect()[0].boxes[0].label == "dog"
