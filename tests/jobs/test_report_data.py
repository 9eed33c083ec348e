import datetime

import pyarrow as pa
import pytest
from finished_runs import FACTS, emotions, failed, scored, write_run

from handler.values.emotions import MIKELS, POLARITY
from jobs.output import parquet
from jobs.report.finished_run import ReportError, date_in, earlier_locations
from jobs.report.reading import find_run, read_run
from jobs.storage.stores import Stores

S3_UNUSED = Stores()


def read(location, **options):
    return read_run(str(location), S3_UNUSED, **options)


def test_a_run_has_the_figures_of_its_rows(tmp_path):
    rows = [
        scored("awe", 0.9, faces=2),
        scored("awe", 0.5),
        scored("fear", 0.4, faces=1),
        failed("fetch", "missing"),
        failed("decode", "damaged"),
        failed("fetch", "missing"),
    ]
    write_run(tmp_path / "dt=2026-11-23", rows)
    run = read(tmp_path / "dt=2026-11-23")
    assert (run.rows, run.ok, run.failed) == (6, 3, 3)
    assert run.reasons == {"fetch/missing": 2, "decode/damaged": 1}
    assert list(run.emotions) == list(MIKELS.labels)
    assert (run.emotions["awe"], run.emotions["fear"], run.emotions["anger"]) == (2, 1, 0)
    assert (run.positive, run.with_face) == (2, 2)
    assert run.confidence == pytest.approx(0.6)
    assert run.title == "2026-11-23"
    assert run.manifest["facts"] == FACTS


def test_all_files_of_a_run_count(tmp_path):
    rows = [scored("awe", 0.3 + n / 100) for n in range(25)]
    manifest = write_run(tmp_path, rows, rows_per_file=10)
    assert len(manifest["files"]) == 3
    run = read(tmp_path, examples=2)
    assert run.positive == 25
    assert [item.position for item in run.most_confident] == [24, 23]
    assert [item.position for item in run.least_confident] == [0, 1]


def test_examples_are_the_extremes_and_say_what_is_known_of_them(tmp_path):
    rows = [scored("awe", 0.2 + n / 50, etag=f"e{n}", faces=n, objects=2) for n in range(30)]
    write_run(tmp_path, [*rows, failed("fetch", "missing")])
    run = read(tmp_path, examples=3)
    assert [item.position for item in run.most_confident] == [29, 28, 27]
    assert [item.position for item in run.least_confident] == [0, 1, 2]
    first = run.most_confident[0]
    assert (first.image, first.etag, first.emotion) == ("29.jpg", "e29", "awe")
    assert first.confidence == pytest.approx(0.78)
    assert (first.faces, first.objects) == (29, 2)


def test_an_image_that_is_listed_often_is_one_example(tmp_path):
    copies = [scored("awe", 0.99, image=f"copy-{n}.jpg", etag="same") for n in range(50)]
    twice = [scored("fear", 0.9, image="twice.jpg")] * 2
    write_run(tmp_path, [scored("anger", 0.5), *copies, *twice], rows_per_file=20)
    run = read(tmp_path, examples=3)
    assert [item.image for item in run.most_confident] == ["copy-0.jpg", "twice.jpg", "0.jpg"]


def test_a_run_without_images_or_without_scored_ones_has_no_confidence(tmp_path):
    write_run(tmp_path / "empty", [])
    write_run(tmp_path / "failed", [failed("fetch", "missing")])
    for name in ("empty", "failed"):
        run = read(tmp_path / name, examples=3)
        assert (run.confidence, run.positive, run.most_confident, run.least_confident) == (
            None,
            0,
            (),
            (),
        )


def test_columns_of_the_list_are_not_taken_for_emotions(tmp_path):
    extra = pa.schema([("p_id", pa.string()), ("sku", pa.string())])
    columns = parquet.schema(MIKELS.labels, extra=extra, boxes=False)
    write_run(tmp_path, [scored("awe", p_id="7")], columns=columns)
    assert read(tmp_path, examples=1).labels == MIKELS.labels


def test_a_wheel_of_two_polarities_has_both(tmp_path):
    columns = parquet.schema(POLARITY.labels, extra=pa.schema([]), boxes=False)
    row = {
        "image": None,
        "status": "ok",
        "emotion": "positive",
        "p_positive": 0.75,
        "p_negative": 0.25,
        "polarity": "positive",
        "faces": 0,
        "objects": 0,
    }
    write_run(tmp_path, [row], columns=columns)
    run = read(tmp_path)
    assert run.emotions == {"positive": 1, "negative": 0}
    assert run.confidence == pytest.approx(0.75)


def test_a_run_that_is_not_finished_is_an_error_and_no_folder_is_made(tmp_path):
    with pytest.raises(ReportError, match=r"no finished run in .*nowhere"):
        read(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    write_run(tmp_path / "run", emotions(awe=3))
    (tmp_path / "run" / "_SUCCESS").unlink()
    with pytest.raises(ReportError, match="no finished run"):
        read(tmp_path / "run")
    assert find_run(str(tmp_path / "run"), S3_UNUSED) is None


def test_rows_that_are_missing_are_noticed(tmp_path):
    write_run(tmp_path / "short", emotions(awe=3))
    write_run(tmp_path / "long", emotions(awe=5))
    data = (tmp_path / "short" / "images-00000.parquet").read_bytes()
    (tmp_path / "long" / "images-00000.parquet").write_bytes(data)
    with pytest.raises(ReportError, match=r"has 3 rows where _manifest.json says 5"):
        read(tmp_path / "long")


@pytest.mark.parametrize("name", ["_manifest.json", "images-00000.parquet"])
def test_a_damaged_file_is_one_line(tmp_path, name):
    write_run(tmp_path, emotions(awe=3))
    (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(ReportError, match=f"{name} in .* is damaged") as error:
        read(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("location", "day"),
    [
        ("s3://r/dt=2026-11-23", datetime.date(2026, 11, 23)),
        ("s3://r/dt=2026-11-23/model_version=1.0/", datetime.date(2026, 11, 23)),
        ("out/2026-01-02", datetime.date(2026, 1, 2)),
        ("2025-01-01/dt=2026-11-23", datetime.date(2026, 11, 23)),
        ("out/2026-99-99", None),
        ("out/12026-11-231", None),
        ("out", None),
    ],
)
def test_the_day_of_a_run_is_in_its_location(location, day):
    assert date_in(location) == day


def test_earlier_runs_are_where_the_same_command_wrote_them():
    assert earlier_locations("s3://r/dt=2026-03-02/model_version=1", 3) == [
        "s3://r/dt=2026-03-01/model_version=1",
        "s3://r/dt=2026-02-28/model_version=1",
        "s3://r/dt=2026-02-27/model_version=1",
    ]
    with pytest.raises(ReportError, match="--against"):
        earlier_locations("s3://r/latest", 3)
