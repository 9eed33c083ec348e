"""Tasks -> parts in a folder, with the shipped model on local files."""

from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
import torch

from handler.values.errors import VeaError
from jobs.output import parquet
from jobs.scoring.sources import ArchiveSource
from jobs.scoring.worker import Worker
from jobs.storage.folders import LocalFolder
from jobs.values.chunks import Chunk, Entry
from jobs.values.job import RetrySettings
from jobs.values.tasks import Task

EXTRA = pa.schema([("id", pa.string())])


@pytest.fixture
def photos(tmp_path, jpeg):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(5):
        (folder / f"{i}.jpg").write_bytes(jpeg(i))
    return folder


@pytest.fixture
def worker(photos, archive, predictor, tmp_path):
    job = SimpleNamespace(
        out=str(tmp_path / "out"),
        threads=1,
        fetch_threads=4,
        fetcher="boto3",
        boxes=True,
        content_hash=False,
        once=False,
        hosts=(),
        retry=RetrySettings(),
    )
    return Worker(job, "run", str(photos), EXTRA, ArchiveSource(archive, predictor.load))


def chunk(index, start, *images):
    return Chunk(index, start, tuple(Entry(image, (f"id of {image}",)) for image in images))


def written(worker):
    return {path.name: path.read_bytes() for path in Path(worker.job.out, "_run").glob("*")}


def test_a_task_becomes_a_part_and_its_report_tells_of_it(worker, predictor, photos):
    heard = []
    with worker.start(lambda *told: heard.append(told)) as work:
        report = work(Task(chunk(3, 30, "0.jpg", "none.jpg", "1.jpg")))
    (data,) = written(worker).values()
    assert report.name == "_run/part-00003.parquet"
    assert (report.bytes, report.rows, report.failed) == (len(data), 3, 1)
    assert report.reasons == {"fetch/missing": 1}
    assert 0 < report.busy <= report.seconds
    assert heard == [(3, {"fetch/missing": 1})]
    rows = parquet.read_part(data).to_pylist()
    assert [row["position"] for row in rows] == [30, 31, 32]
    assert [row["id"] for row in rows] == ["id of 0.jpg", "id of none.jpg", "id of 1.jpg"]
    (expected,) = predictor.predict([(photos / "1.jpg").read_bytes()])
    assert rows[2]["emotion"] == expected.emotion
    assert rows[2]["objects"] == len(expected.objects) == len(rows[2]["boxes"])
    attention = [item.attention for item in expected.objects]
    assert [box["attention"] for box in rows[2]["boxes"]] == pytest.approx(attention, abs=1e-4)


def test_a_probe_writes_nothing(worker):
    with worker.start() as work:
        report = work(Task(chunk(0, 0, "0.jpg", "1.jpg", "2.jpg"), probe=range(1, 3)))
    assert (report.name, report.rows) == ("", 2)
    assert written(worker) == {}


def test_the_same_task_gives_the_same_bytes_whatever_was_scored_before(worker):
    task = Task(chunk(1, 3, *(f"{i}.jpg" for i in range(5))))
    with worker.start() as work:
        work(task)
    alone = written(worker)["part-00001.parquet"]
    with worker.start() as work:
        before = Task(chunk(0, 0, "4.jpg", "0.jpg", "none.jpg"))
        reports = [work(before), work(task)]
    assert [report.name for report in reports] == [
        "_run/part-00000.parquet",
        "_run/part-00001.parquet",
    ]
    assert written(worker)["part-00001.parquet"] == alone


def test_no_report_comes_of_a_part_that_could_not_be_written(worker, monkeypatch):
    def full(self, name, data):
        raise VeaError("the disk is full")

    monkeypatch.setattr(LocalFolder, "write", full)
    with pytest.raises(VeaError, match="the disk is full"), worker.start() as work:
        work(Task(chunk(0, 0, "0.jpg")))
    assert written(worker) == {}


def test_torch_computes_with_the_threads_of_the_job_and_gets_its_own_back(worker, predictor):
    before = torch.get_num_threads()
    seen = []
    predict = predictor.predict_decoded

    def watched(images, **wanted):
        seen.append(torch.get_num_threads())
        return predict(images, **wanted)

    predictor.predict_decoded = watched
    worker.job.threads = 3
    with worker.start() as work:
        work(Task(chunk(0, 0, "0.jpg")))
    assert seen == [3]
    assert torch.get_num_threads() == before


def test_a_column_that_is_ours_is_refused(worker):
    bad = Worker(
        worker.job, "run", worker.list_folder, pa.schema([("emotion", pa.string())]), worker.source
    )
    with pytest.raises(VeaError, match="'emotion'"), bad.start():
        pass
