"""Lists as other programs leave them: S3 Inventory, Spark, `aws s3 ls`, spreadsheets."""

import gzip
import json
import uuid
from dataclasses import replace

import pandas
import pyarrow as pa
import pyarrow.parquet
import pytest

from jobs.lists.columns import ListError
from jobs.lists.image_list import open_list
from jobs.run.driver import score_list
from jobs.values.job import ScoreJob


def rows(location, **options):
    with open_list(str(location), **options) as images:
        return [(entry.image, *entry.extra) for entry in images]


def refusal(location, **options):
    with pytest.raises(ListError) as caught:
        rows(location, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("header", ["URL", "Image", "S3_Key"])
def test_the_header_may_be_in_capitals(tmp_path, header):
    (tmp_path / "list.csv").write_text(f"{header},id\na.jpg,1\n")
    assert rows(tmp_path / "list.csv") == [("a.jpg", "1")]
    assert rows(tmp_path / "list.csv", column=header.lower()) == [("a.jpg", "1")]


def test_an_exact_name_wins_and_an_ambiguous_one_is_refused(tmp_path):
    (tmp_path / "list.csv").write_text("URL,url\na.jpg,b.jpg\n")
    assert rows(tmp_path / "list.csv") == [("b.jpg", "a.jpg")]
    assert "no column 'Url'" in refusal(tmp_path / "list.csv", column="Url")


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_bucket_and_key_name_the_image(tmp_path, suffix):
    """As S3 Inventory has them; the bucket of each row counts."""
    path = tmp_path / f"inventory.{suffix}"
    table = pandas.DataFrame(
        {"bucket": ["photos", "more"], "key": ["a/1 ü.jpg", "2.jpg"], "size": ["1", "2"]}
    )
    if suffix == "csv":
        table.to_csv(path, index=False)
    elif suffix == "parquet":
        table.to_parquet(path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_dict("records")))
    assert rows(path) == [
        ("s3://photos/a/1 ü.jpg", "photos", "1"),
        ("s3://more/2.jpg", "more", "2"),
    ]
    assert rows(path, keep=["size"]) == [("s3://photos/a/1 ü.jpg", "1"), ("s3://more/2.jpg", "2")]
    assert rows(path, keep=[]) == [("s3://photos/a/1 ü.jpg",), ("s3://more/2.jpg",)]


def test_keys_without_a_bucket_stay_relative(tmp_path):
    (tmp_path / "list.csv").write_text("bucket,key\n,a.jpg\nb,s3://other/c.jpg\n")
    assert [row[0] for row in rows(tmp_path / "list.csv")] == ["a.jpg", "s3://other/c.jpg"]


def test_an_inventory_without_a_header_is_told_what_it_lacks(tmp_path):
    (tmp_path / "list.csv").write_text('"photos","a/1.jpg","123"\n')
    assert "first line has to name the columns" in refusal(tmp_path / "list.csv")


@pytest.mark.parametrize(
    "line",
    ["2026-11-22 10:00:00      12345 a.jpg", "                           PRE photos/"],
)
def test_what_aws_s3_ls_prints_is_no_list(tmp_path, line):
    (tmp_path / "list.txt").write_text(f"b.jpg\n{line}\n")
    said = refusal(tmp_path / "list.txt")
    assert said.startswith("line 2 of the list ")
    assert "s3://bucket/prefix/" in said
    # A photo may have such a name.
    (tmp_path / "list.txt").write_text("2026-11-22 10:00:00.jpg\nPRE.jpg\n")
    assert len(rows(tmp_path / "list.txt")) == 2


def test_bytes_of_a_picture_where_a_name_should_be_are_called_so(tmp_path, jpeg):
    path = tmp_path / "list.parquet"
    names = pa.array([b"a.jpg", "ü.jpg".encode(), None, jpeg(1)], pa.binary())
    pyarrow.parquet.write_table(pa.table({"image": names}), path)
    said = refusal(path)
    assert said.startswith("row 4 of the list ")
    assert "those of a picture" in said
    pyarrow.parquet.write_table(pa.table({"image": names.slice(0, 3)}), path)
    assert rows(path) == [("a.jpg",), ("ü.jpg",), ("",)]


@pytest.fixture
def spark(tmp_path):
    """A folder as Spark leaves it."""
    folder = tmp_path / "lists" / "dt=2026-11-22"
    folder.mkdir(parents=True)
    for number in range(3):
        name = f"part-0000{number}-{uuid.UUID(int=1)}-c000.snappy.parquet"
        pandas.DataFrame({"image": [f"{number}.jpg"], "id": [number]}).to_parquet(folder / name)
    (folder / "_SUCCESS").touch()
    (folder / "._SUCCESS.crc").touch()
    return folder


@pytest.mark.parametrize("pattern", ["", "/", "/*.parquet", "/part-*"])
def test_the_files_of_spark_are_one_list(spark, pattern):
    assert rows(f"{spark}{pattern}") == [("0.jpg", 0), ("1.jpg", 1), ("2.jpg", 2)]
    with open_list(f"{spark}{pattern}") as images:
        digest = images.sha256
        assert images.folder == str(spark)
    pandas.DataFrame({"image": ["9.jpg"], "id": [9]}).to_parquet(
        next(iter(sorted(spark.glob("part-*"))))
    )
    with open_list(f"{spark}{pattern}") as images:
        assert images.sha256 != digest


def test_empty_files_of_spark_and_packed_ones(tmp_path):
    (tmp_path / "part-00000.csv").touch()
    (tmp_path / "part-00001.csv").write_text("image\na.jpg\n")
    (tmp_path / "part-00002.csv.gz").write_bytes(gzip.compress(b"image\nb.jpg\n"))
    assert rows(f"{tmp_path}/") == [("a.jpg",), ("b.jpg",)]


def test_files_with_different_columns_are_no_list(tmp_path):
    (tmp_path / "part-0.jsonl").write_text('{"image": "a.jpg", "n": 1}\n')
    (tmp_path / "part-1.jsonl").write_text('{"image": "b.jpg", "n": 0.5}\n')
    assert "file 2 has n: double; declare them with --schema" in refusal(f"{tmp_path}/")
    assert rows(f"{tmp_path}/", types={"n": "double"}) == [("a.jpg", 1.0), ("b.jpg", 0.5)]


def test_a_pattern_that_fits_nothing_is_one_line(tmp_path):
    assert "no file fits the list" in refusal(tmp_path / "*.csv")
    # A file may have such a name.
    (tmp_path / "a[*].csv").write_text("image\na.jpg\n")
    assert rows(tmp_path / "a[*].csv") == [("a.jpg",)]


def test_a_job_takes_a_folder_of_spark_for_a_list(spark, archive, predictor, jpeg, tmp_path):
    (spark / "1.jpg").write_bytes(jpeg(1))
    job = ScoreJob(image_list=f"{spark}/", out=str(tmp_path / "out"), model=archive)
    score_list(job, load=predictor.load)
    frame = pandas.read_parquet(tmp_path / "out")
    assert frame["image"].tolist() == ["0.jpg", "1.jpg", "2.jpg"]
    assert frame["status"].tolist() == ["failed", "ok", "failed"]
    again = score_list(replace(job, image_list=f"{spark}/part-*"), load=predictor.load)
    assert again.scored == 0
