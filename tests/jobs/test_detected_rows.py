"""`vea score --boxes` with a model that has a detector: a column of its own, and only then."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from handler.predictor import Predictor
from jobs.run.driver import score_list
from jobs.values.job import ScoreJob

pytestmark = pytest.mark.integration


@pytest.fixture
def photos(photo, tmp_path: Path) -> Path:
    for seed in range(5):
        photo(seed, (150, 100 + 10 * seed)).save(tmp_path / f"{seed}.png")
    listed = tmp_path / "photos.txt"
    listed.write_text("".join(f"{seed}.png\n" for seed in range(5)) + "none.png\n")
    return listed


def scored(model: Path, listed: Path, out: Path, **options) -> pq.ParquetFile:
    score_list(ScoreJob(str(listed), str(out), model=model, **options))
    (file,) = out.glob("*.parquet")
    return pq.ParquetFile(file)


def test_rows_with_boxes_have_what_was_detected_beside_them(
    reasons_models, photos: Path, tmp_path: Path
) -> None:
    model = reasons_models["torch"]
    rows = scored(model, photos, tmp_path / "out", boxes=True).read().to_pylist()
    predictor = Predictor.load(model)
    for seed, row in enumerate(rows[:5]):
        (answer,) = predictor.predict([(tmp_path / f"{seed}.png").read_bytes()], explain=True)
        assert answer.detected is not None
        assert [thing["label"] for thing in row["detected"]] == ["person"] * len(answer.detected)
        shares = [thing.attention for thing in answer.detected]
        assert [t["attention"] for t in row["detected"]] == pytest.approx(shares, abs=1e-4)
        assert len(row["boxes"]) == row["objects"] == len(answer.objects)
    assert any(row["detected"] for row in rows[:5])
    assert rows[5]["status"] == "failed"
    assert rows[5]["detected"] is None


def test_without_boxes_or_a_detector_rows_are_as_ever(
    reasons_models, tiny_model: Path, photos: Path, tmp_path: Path
) -> None:
    plain = scored(tiny_model, photos, tmp_path / "plain", boxes=True)
    with_it = scored(reasons_models["torch"], photos, tmp_path / "with", boxes=True)
    assert "detected" not in plain.schema_arrow.names
    assert [n for n in with_it.schema_arrow.names if n != "detected"] == plain.schema_arrow.names
    same = [n for n in plain.schema_arrow.names if n not in ("model_digest", "run_id")]
    assert with_it.read(columns=same).equals(plain.read(columns=same))
    without = scored(reasons_models["torch"], photos, tmp_path / "without")
    assert "detected" not in without.schema_arrow.names


@pytest.mark.parametrize(("boxes", "works"), [(False, False), (True, True)])
def test_the_detector_works_for_rows_with_boxes_only(
    reasons_models, photos: Path, tmp_path: Path, boxes: bool, works: bool
) -> None:
    asked = []

    def load(path: Path, *, threads: int) -> Predictor:
        predictor = Predictor.load(path, threads=threads)
        add = predictor.things.add

        def counted(*given):
            asked.append(given)
            return add(*given)

        predictor.things.add = counted
        return predictor

    job = ScoreJob(str(photos), str(tmp_path / "out"), model=reasons_models["torch"], boxes=boxes)
    score_list(job, load=load)
    assert bool(asked) == works
