"""Jobs between buckets of a real S3 server, through the command line as users start them.

The predictor is the shipped one; only loading it is shared between the tests.
"""

import gzip
import io
import json
import os
import uuid

import numpy as np
import pandas
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from handler.predictor import Predictor
from handler.values.errors import VeaError
from handler.values.limits import ImageLimits
from jobs.storage.stores import Stores
from jobs.values.locations import ObjectLocation
from tests.shipped import ARCHIVE
from vea.commands import score
from vea.demo.embedded_s3 import embedded_s3

pytest_plugins = ["s3_server"]
pytestmark = pytest.mark.integration


def jpeg(seed):
    noise = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((96, 72)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def loaded():
    return Predictor.load(ARCHIVE)


@pytest.fixture
def vea(loaded, monkeypatch):
    """Runs `vea score`; errors come out as exceptions, which `vea.main` prints."""
    monkeypatch.setattr(Predictor, "load", lambda path, **_: loaded)
    app = typer.Typer()
    app.callback()(lambda: None)
    score.register(app)

    def run(manifest, out, *options):
        arguments = ["score", manifest, "--out", out, "--model", str(ARCHIVE), "--workers", "0"]
        return CliRunner().invoke(app, [*arguments, *options])

    return run


@pytest.fixture
def out():
    return f"s3://results/{uuid.uuid4().hex}"


def put_list(s3, content, name="list.txt"):
    key = f"{uuid.uuid4().hex}/{name}"
    s3.put_object(Bucket="photos", Key=key, Body=content)
    return f"s3://photos/{key}"


def message(result):
    assert result.exit_code == 1
    assert isinstance(result.exception, VeaError)
    text = str(result.exception)
    assert "\n" not in text
    return text


@pytest.fixture
def photos(s3):
    """A list with every kind of trouble between good photos."""
    s3.put_object(Bucket="photos", Key="a/1 #?ü.jpg", Body=jpeg(1))
    s3.put_object(Bucket="photos", Key="a/2.jpg", Body=jpeg(2)[:300])
    s3.put_object(Bucket="photos", Key="a/3.jpg", Body=jpeg(3))
    s3.put_object(Bucket="photos", Key="a/huge.jpg", Body=bytes(ImageLimits().max_bytes + 1))
    names = ["1 #?ü.jpg", "none.jpg", "2.jpg", "3.jpg", "huge.jpg", "3.jpg"]
    return [f"s3://photos/a/{name}" for name in names]


def test_every_listed_object_is_a_row_and_trouble_stays_in_its_row(vea, s3, photos, out):
    result = vea(put_list(s3, "\n".join(photos)), out, "--chunk-size", "4")
    assert result.exit_code == 0, result.exception
    frame = pandas.read_parquet(out)
    assert frame["image"].tolist() == photos
    assert frame["status"].tolist() == ["ok", "failed", "failed", "ok", "failed", "ok"]
    failed = frame[frame["status"] == "failed"]
    assert failed["stage"].tolist() == ["fetch", "decode", "fetch"]
    assert failed["reason_kind"].tolist() == ["missing", "damaged", "too-large"]
    assert frame["emotion"][3] == frame["emotion"][5]
    for word in ("fetch/missing", "decode/damaged", "images/s", out):
        assert word in result.stdout.replace("\n", "")


def test_a_second_start_writes_nothing(vea, s3, photos, out):
    listed = put_list(s3, "\n".join(photos))
    first = json.loads(vea(listed, out, "--json", "--chunk-size", "2").stdout)
    before = objects(s3, out)
    assert sorted(before) == [
        "_SUCCESS",
        "_manifest.json",
        "_run/identity.json",
        "images-00000.parquet",
    ]
    second = json.loads(vea(listed, out, "--json", "--chunk-size", "2").stdout)
    assert objects(s3, out) == before
    assert (second["scored"], second["parts_skipped"]) == (0, 3)
    for field in ("run_id", "rows", "ok", "failed", "reasons", "parts", "files"):
        assert first[field] == second[field]


def test_shards_divide_a_run_and_the_last_one_finishes_it(vea, s3, photos, out):
    listed = put_list(s3, "\n".join(photos))
    first = vea(listed, out, "--chunk-size", "2", "--shard", "0/2")
    assert first.exit_code == 0
    assert "other shards are missing" in first.stdout
    assert sorted(objects(s3, out)) == [
        "_run/identity.json",
        "_run/part-00000.parquet",
        "_run/part-00002.parquet",
    ]
    last = json.loads(vea(listed, out, "--chunk-size", "2", "--shard", "1/2", "--json").stdout)
    assert (last["complete"], last["scored"], last["rows"]) == (True, 2, 6)
    whole = f"{out}-whole"
    vea(listed, whole, "--chunk-size", "2")
    # The same bytes, as their ETags tell.
    etags = [objects(s3, place)["images-00000.parquet"][0] for place in (out, whole)]
    assert etags[0] == etags[1]


def test_rows_have_the_etags_of_their_objects_whoever_fetches(vea, s3, photos, out):
    pytest.importorskip("obstore")
    listed = put_list(s3, "\n".join(photos))
    tags = []
    for fetcher in ("boto3", "obstore"):
        assert vea(listed, f"{out}-{fetcher}", "--fetcher", fetcher).exit_code == 0
        tags.append(pandas.read_parquet(f"{out}-{fetcher}")["etag"].tolist())
    assert tags[0] == tags[1]
    head = s3.head_object(Bucket="photos", Key="a/3.jpg")
    assert tags[0][3] == tags[0][5] == head["ETag"].strip('"')
    assert pandas.isna(tags[0][1])


def objects(s3, out):
    """ETag and time of writing by name."""
    prefix = out.removeprefix("s3://results/") + "/"
    found = s3.list_objects_v2(Bucket="results", Prefix=prefix)
    return {
        item["Key"].removeprefix(prefix): (item["ETag"], item["LastModified"])
        for item in found["Contents"]
    }


def test_a_gzipped_csv_on_s3_with_images_beside_it(vea, s3, out):
    listed = put_list(s3, gzip.compress(b"id,url\n1,x/a.jpg\n"), "list.csv.gz")
    key = listed.removeprefix("s3://photos/").rpartition("/")[0]
    s3.put_object(Bucket="photos", Key=f"{key}/x/a.jpg", Body=jpeg(4))
    assert vea(listed, out, "--column", "url").exit_code == 0
    assert pandas.read_parquet(out)["status"].tolist() == ["ok"]


def test_local_list_and_images_to_s3(vea, s3, out, tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(5))
    (tmp_path / "list.txt").write_text("a.jpg\ns3://photos/none.jpg\n")
    assert vea(str(tmp_path / "list.txt"), out).exit_code == 0
    assert pandas.read_parquet(out)["status"].tolist() == ["ok", "failed"]


def test_an_empty_list_is_a_finished_run(vea, s3, out):
    result = vea(put_list(s3, ""), out, "--json")
    assert json.loads(result.stdout)["rows"] == 0
    key = out.removeprefix("s3://results/")
    assert s3.get_object(Bucket="results", Key=f"{key}/_SUCCESS")["Body"].read() == b""
    assert len(pandas.read_parquet(out)) == 0


def test_more_failures_than_allowed_exit_with_3(vea, s3, photos, out):
    listed = put_list(s3, "\n".join(photos))
    options = ["--chunk-size", "2", "--json", "--max-error-rate"]
    result = vea(listed, out, *options, "0.4")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["failed"] == 3
    assert "3 of 6 images failed" in result.stderr
    assert "_SUCCESS" not in objects(s3, out)
    # The chunks before the one with the image too many are kept.
    result = vea(listed, out, *options, "0.5")
    assert (result.exit_code, json.loads(result.stdout)["scored"]) == (0, 2)
    assert vea(listed, out, *options, "0.4").exit_code == 3


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("AWS_SECRET_ACCESS_KEY", "wrong", "SignatureDoesNotMatch"),
        ("AWS_ACCESS_KEY_ID", "nobody", "InvalidAccessKeyId"),
    ],
)
def test_wrong_credentials_stop_the_job_and_are_not_rows(
    vea, s3, out, tmp_path, monkeypatch, name, value, code
):
    # List and output are local, so that the images are what the credentials are first used for.
    (tmp_path / "list.txt").write_text("s3://photos/1.jpg\n" * 50)
    monkeypatch.setenv(name, value)
    text = message(vea(str(tmp_path / "list.txt"), str(tmp_path / "out")))
    assert code in text
    assert "check AWS_ACCESS_KEY_ID" in text
    assert os.listdir(tmp_path / "out") == ["_run"]
    assert os.listdir(tmp_path / "out" / "_run") == ["identity.json"]


def test_no_credentials_stop_the_job(vea, s3, out, tmp_path, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    assert "no usable AWS credentials" in message(vea("s3://photos/list.txt", out))


def test_a_missing_bucket_stops_the_job(vea, s3, photos, out, tmp_path):
    expected = "the bucket 'nowhere' does not exist at http"
    assert expected in message(vea("s3://nowhere/list.txt", out))
    assert expected in message(vea(put_list(s3, photos[0]), "s3://nowhere/out"))


def test_a_row_that_names_a_missing_bucket_is_a_row(vea, s3, photos, out):
    result = vea(put_list(s3, f"s3://nowhere/1.jpg\n{photos[0]}\n"), out)
    assert result.exit_code == 0, result.exception
    row = pandas.read_parquet(out).iloc[0]
    assert row["reason_kind"] == "no-bucket"
    assert row["reason"].startswith("the bucket 'nowhere' does not exist at http")
    # A typing error in the whole list is noticed before it has been gone through.
    typed_wrong = put_list(s3, "s3://nowhere/1.jpg\n" * 30)
    assert "the bucket 'nowhere' does not exist" in message(vea(typed_wrong, f"{out}-2"))


def test_a_missing_list_stops_the_job(vea, s3, out):
    text = message(vea("s3://photos/none.txt", out))
    assert text == "cannot read s3://photos/none.txt: there is no such object"


def test_another_run_s_prefix_is_refused(vea, s3, photos, out):
    assert vea(put_list(s3, photos[0]), out).exit_code == 0
    text = message(vea(put_list(s3, photos[3]), out))
    assert "holds another run: the list of images differs" in text


def test_of_several_runs_that_claim_a_prefix_one_wins(s3, out):
    place = ObjectLocation.parse(f"{out}/_run/identity.json")
    store = Stores()
    assert [store.create(place, name) for name in (b"one", b"two")] == [True, False]
    assert store.fetch(place, max_bytes=10)[0] == b"one"


def test_a_prefix_of_more_than_a_thousand_parts_is_listed_whole(s3, out):
    store, place = Stores(), ObjectLocation.parse(f"{out}/")
    for i in range(1005):
        s3.put_object(Bucket=place.bucket, Key=f"{place.key}{i}", Body=b"x")
    s3.put_object(Bucket=place.bucket, Key=f"{place.key}below/1", Body=b"x")
    assert store.list(place) == {str(i): 1 for i in range(1005)}


def test_a_server_started_again_in_its_folder_has_its_objects(tmp_path):
    with embedded_s3(tmp_path, buckets=["kept"]) as server:
        server.client().put_object(Bucket="kept", Key="a", Body=b"1")
        first = server.endpoint
    with pytest.raises(Exception, match="Could not connect"):
        server.client().list_buckets()
    with embedded_s3(tmp_path, buckets=["kept"]) as server:
        assert server.client().get_object(Bucket="kept", Key="a")["Body"].read() == b"1"
    assert first.startswith("http://127.0.0.1:")
