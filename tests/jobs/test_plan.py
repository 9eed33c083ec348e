"""`--dry-run`: what a run would do, told without writing anything."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from finished_runs import FACTS, emotions, write_run

from handler.archive.files import read_card
from handler.values.prediction import ModelIdentity
from jobs.monitoring.counter import NothingScored
from jobs.output.ledger import LedgerError
from jobs.run.driver import score_list
from jobs.run.plan import plan_run
from jobs.values.job import ScoreJob
from tests.program import vea


@pytest.fixture
def root(tmp_path: Path, photo, encode) -> Path:
    """A folder with five pictures and a list with a column."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.png").write_bytes(encode(photo(number), "PNG"))
    rows = "".join(f"photos/{number}.png,{number}\n" for number in range(5))
    (tmp_path / "list.csv").write_text(f"image,post\n{rows}")
    return tmp_path


@pytest.fixture
def job(root: Path, tiny_model: Path) -> ScoreJob:
    out = root / "nights" / "dt=2026-11-23"
    return ScoreJob(str(root / "list.csv"), str(out), model=tiny_model, chunk_size=2)


def everything_in(root: Path) -> dict[str, bytes | None]:
    return {str(p): p.read_bytes() if p.is_file() else None for p in sorted(root.rglob("*"))}


def identity_of(model: Path) -> ModelIdentity:
    config, _, digest = read_card(model)
    return ModelIdentity(config.name, config.version, digest)


def test_it_tells_of_the_run_that_follows_and_writes_nothing(job: ScoreJob, root: Path) -> None:
    before = everything_in(root)
    plan = plan_run(job)
    assert everything_in(root) == before
    assert (plan.state, plan.rows, plan.images, plan.files) == ("new", 5, 5, 1)
    assert (plan.chunks, plan.chunks_done, plan.rate) == (3, 0, None)
    assert plan.sources == {"this machine": 5}
    assert (plan.seconds, plan.bytes) == (None, None)
    summary = score_list(job)
    assert summary.run_id == plan.run_id
    schema = pq.read_schema(Path(job.out) / "images-00000.parquet")
    assert plan.columns == {field.name: str(field.type) for field in schema}


def test_chunks_that_are_done_are_not_counted_again(job: ScoreJob) -> None:
    assert not score_list(replace(job, shard=(1, 2))).complete
    plan = plan_run(job)
    assert (plan.state, plan.chunks, plan.chunks_done, plan.images) == ("interrupted", 3, 1, 3)
    first = plan_run(replace(job, shard=(0, 2)))
    assert (first.chunks, first.chunks_done, first.images) == (2, 0, 3)
    assert score_list(job).scored == 3
    finished = plan_run(job)
    assert (finished.state, finished.chunks_done, finished.images) == ("finished", 3, 0)


def test_what_the_run_would_refuse_is_refused(job: ScoreJob) -> None:
    score_list(job)
    with pytest.raises(LedgerError, match="--boxes differs"):
        plan_run(replace(job, boxes=True))
    with pytest.raises(Exception, match="no column of the result"):
        plan_run(replace(job, columns=["joy"]))


def test_a_folder_of_images_is_listed_without_keeping_the_listing(
    job: ScoreJob, root: Path
) -> None:
    (root / "photos" / "notes.txt").write_text("no photo")
    job = replace(job, image_list=f"{root}/photos/")
    before = everything_in(root)
    plan = plan_run(job)
    assert everything_in(root) == before
    assert (plan.rows, sum(plan.left_out.values())) == (5, 1)
    assert score_list(job).run_id == plan.run_id
    (root / "photos" / "5.png").write_bytes(b"")
    assert plan_run(job).rows == 5, "a run keeps its listing"


def test_the_rate_is_that_of_the_latest_night_of_the_same_model(job: ScoreJob, root: Path) -> None:
    mine, nights = identity_of(job.model), root / "nights"
    for day, rate, model in (
        ("2026-11-20", 1.0, mine),
        ("2026-11-21", 2.0, mine),
        ("2026-11-22", 9.0, replace(mine, digest="f" * 64)),
        ("2026-11-24", 9.0, replace(mine, runtime="onnx")),
    ):
        facts = {**FACTS, "images_per_second": rate}
        write_run(nights / f"dt={day}", emotions(awe=10), model=model, facts=facts)
    copied = nights / "dt=2026-11-25"
    manifest = write_run(copied, emotions(awe=10), model=mine)
    manifest["settings"]["since"] = "a" * 64
    (copied / "_manifest.json").write_text(json.dumps(manifest))
    plan = plan_run(job)
    assert plan.rate.images_per_second == 2.0
    assert plan.rate.location.endswith("dt=2026-11-21")
    assert plan.seconds == 2.5
    written = sum(p.stat().st_size for p in (nights / "dt=2026-11-21").glob("*.parquet"))
    assert plan.bytes == round(written / 10 * 5)


def test_neighbouring_folders_count_where_the_path_gives_no_columns(
    job: ScoreJob, root: Path
) -> None:
    write_run(root / "results" / "monday", emotions(awe=1), model=identity_of(job.model))
    plan = plan_run(replace(job, out=str(root / "results" / "tuesday")))
    assert plan.rate.images_per_second == FACTS["images_per_second"]


def test_a_failed_run_would_be_replaced(job: ScoreJob, root: Path) -> None:
    (root / "bad.txt").write_text("none.png\n")
    bad = replace(job, image_list=str(root / "bad.txt"), replace_failed=True)
    with pytest.raises(NothingScored):
        score_list(bad)
    before = everything_in(root)
    plan = plan_run(replace(job, replace_failed=True))
    assert (plan.state, plan.images) == ("replaces a failed run", 5)
    again = plan_run(bad)
    assert (again.state, again.chunks_done, again.images) == ("interrupted", 0, 1)
    assert everything_in(root) == before


def test_the_command_shows_the_plan_for_people_and_for_programs(job: ScoreJob, root: Path) -> None:
    command = ["score", root / "list.csv", "--model", job.model, "--dry-run"]
    out = ["--out", f"{root}/nights/dt={{date}}", "--date", "2026-11-23"]
    told = vea(*command, *out)
    assert told.returncode == 0, told.stderr
    assert "nothing is written" in told.stdout
    assert "unknown: no finished run of this model" in told.stdout
    assert "score some hundred of the images" in " ".join(told.stdout.split())
    assert not (root / "nights").exists()
    write_run(root / "nights" / "dt=2026-11-22", emotions(awe=2), model=identity_of(job.model))
    priced = vea(*command, *out, "--price-per-hour", "7200 EUR")
    assert "at 20.0 images/s" in priced.stdout
    assert "about 0.50 EUR" in priced.stdout
    document = json.loads(vea(*command, *out, "--price-per-hour", "7200 EUR", "--json").stdout)
    assert document["dry_run"] is True
    assert (document["rows"], document["images"], document["estimated_seconds"]) == (5, 5, 0.25)
    assert (document["estimated_cost"], document["currency"]) == (0.5, "EUR")
    assert document["out"].endswith("dt=2026-11-23")


def test_a_price_without_a_dry_run_is_wrong_usage(job: ScoreJob, root: Path) -> None:
    refused = vea(
        *("score", root / "list.csv", "--model", job.model, "--out", root / "o"),
        *("--price-per-hour", "1 EUR"),
    )
    assert refused.returncode == 2
    assert "only with --dry-run" in refused.stderr
