"""Pictures inside archives and tables on a real S3 server, and workers that are killed."""

import io
import os
import signal
import subprocess
import sys
import uuid

import numpy as np
import pandas
import pytest
import stub_job
import stub_model
import typer
from PIL import Image
from test_processes import files_of
from typer.testing import CliRunner

from handler.predictor import Predictor
from handler.values.errors import VeaError
from jobs.engines.processes import Processes
from jobs.run.driver import score_list
from tests.jobs.containers import forms_of, parquet_of, plain_table, samples, tar_of, zst
from tests.shipped import ARCHIVE
from vea.commands import score

pytest_plugins = ["s3_server"]
pytestmark = pytest.mark.integration

OURS = ["image", "run_id", "etag", "image_path", "json", "txt"]


def jpeg(seed):
    noise = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((96, 72)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def loaded():
    return Predictor.load(ARCHIVE)


@pytest.fixture
def vea(loaded, monkeypatch, tmp_path):
    """Runs `vea score` as users start it; gives its rows."""
    monkeypatch.setattr(Predictor, "load", lambda path, **_: loaded)
    app = typer.Typer()
    app.callback()(lambda: None)
    score.register(app)

    def run(listed, *options):
        out = str(tmp_path / uuid.uuid4().hex)
        arguments = ["score", listed, "--out", out, "--model", str(ARCHIVE), "--workers", "0"]
        result = CliRunner().invoke(app, [*arguments, "--chunk-size", "4", *options])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return pandas.read_parquet(out)

    return run


@pytest.fixture
def bucket(s3):
    """Puts objects under a prefix of their own."""
    prefix = uuid.uuid4().hex

    def put(objects):
        for name, data in objects.items():
            s3.put_object(Bucket="photos", Key=f"{prefix}/{name}", Body=data)
        return f"s3://photos/{prefix}"

    return put


def test_rows_are_those_of_a_list_in_every_form(vea, bucket):
    photos = [jpeg(seed) for seed in range(9)]
    photos[5] = b"not a photo"
    place = bucket({f"{n}.jpg": photo for n, photo in enumerate(photos)})
    bucket({"list.txt": "".join(f"{place}/{n}.jpg\n" for n in range(9)).encode()})
    bucket(forms_of(photos))
    expected = vea(f"{place}/list.txt")
    for name in forms_of(photos):
        found = vea(f"{place}/{name}")
        assert found["image"].str.startswith(f"{place}/{name}#").all()
        pandas.testing.assert_frame_equal(
            found.drop(columns=[c for c in OURS if c in found]),
            expected.drop(columns=["image", "run_id", "etag"]),
        )


def test_a_prefix_and_a_pattern_name_several_archives(vea, bucket):
    photos = [jpeg(seed) for seed in range(6)]
    place = bucket(
        {
            "shards/00000.tar": tar_of(samples(photos[:2])),
            "shards/00001.tar.zst": zst(tar_of(samples(photos[2:]))),
            "shards/00000.parquet": parquet_of(plain_table(photos)),
            "shards/00000_stats.json": b"{}",
        }
    )
    found = vea(f"{place}/shards/", "--keep", "txt", "--keep", "jpg")
    assert found["jpg"].tolist() == photos
    assert found["txt"].tolist() == [f"photo no. {n}" for n in (0, 1, 0, 1, 2, 3)]
    assert found["image"][2] == f"{place}/shards/00001.tar.zst#000000.jpg"
    assert len(vea(f"{place}/shards/*.tar")) == 2


def test_a_large_archive_is_read_in_parts(vea, bucket):
    """More than one request, and pictures that lie across two of them."""
    photos = [jpeg(seed) + bytes(1_500_000) for seed in range(8)]
    place = bucket({"large.tar": tar_of(samples(photos))})
    assert (vea(f"{place}/large.tar")["status"] == "ok").all()


def texts(count, *, words="", poison=(), size=0):
    """Pictures of the stub model, padded to a size in bytes."""
    return [
        (f"{'poison ' if n in poison else ''}{words} ".ljust(size) + str(n)).encode()
        for n in range(count)
    ]


def test_an_object_that_is_replaced_ends_the_job(bucket, tmp_path):
    photos = texts(20, size=600_000)
    place = bucket({"photos.tar": tar_of(samples(photos))})

    def replace(now):
        if now.done:
            bucket({"photos.tar": tar_of(samples(photos[::-1]))})

    with pytest.raises(VeaError, match="has changed since the list was read"):
        score_list(
            stub_job.job(f"{place}/photos.tar", tmp_path / "out"),
            load=stub_model.load,
            on_progress=replace,
        )


# Workers that are processes, and die


def write(folder, photos):
    for name, data in forms_of(photos).items():
        (folder / name).write_bytes(data)


@pytest.mark.long
def test_pictures_that_kill_are_found_and_nothing_else_is_lost(tmp_path):
    write(tmp_path, texts(9, poison={3, 5}))
    job = stub_job.job(tmp_path / "photos.tar.zst", tmp_path / "out", 3)
    summary = score_list(job, engine=Processes(2), load=stub_model.load)
    assert summary.reasons == {"predict/killed": 2}
    frame = pandas.read_parquet(tmp_path / "out")
    assert frame[frame["status"] == "ok"]["width"].tolist() == [0, 1, 2, 4, 6, 7, 8]


@pytest.mark.long
@pytest.mark.parametrize("name", ["photos.tar", "photos.tar.gz", "hugging-face.parquet"])
def test_killing_drivers_and_workers_changes_no_byte(tmp_path, name):
    write(tmp_path, texts(48, words="slow"))
    listed, out = tmp_path / name, tmp_path / "out"
    score_list(stub_job.job(listed, tmp_path / "calm"), load=stub_model.load)
    for images in (8, 12):  # of each start
        driver = subprocess.Popen(
            [sys.executable, stub_job.__file__, str(listed), str(out), "2"],
            stdout=subprocess.PIPE,
            text=True,
        )
        with driver:
            for line in driver.stdout:
                done, *workers = (int(word) for word in line.split())
                if done >= images:
                    break
            os.kill(workers[0], signal.SIGKILL)
            driver.stdout.readline()
            driver.kill()
    done = len(list((out / "_run").glob("part-*")))
    assert 0 < done < 12
    summary = score_list(stub_job.job(listed, out), engine=Processes(2), load=stub_model.load)
    assert (summary.parts_skipped, summary.scored) == (done, 48 - 4 * done)
    assert files_of(out) == files_of(tmp_path / "calm")
