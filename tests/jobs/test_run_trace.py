"""A night's phases and chunks at a real receiver of OpenTelemetry's protocol."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs.run.driver import score_list
from jobs.values.job import ScoreJob
from tests.otlp_receiver import receiver
from tests.program import vea

pytestmark = pytest.mark.integration

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def listed(tmp_path: Path, photo, encode) -> Path:
    """A list of five, of which one is missing."""
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(encode(photo(number), "PNG"))
    names = "".join(f"{number}.png\n" for number in range(5))
    (tmp_path / "list.txt").write_text(names)
    return tmp_path / "list.txt"


def test_phases_and_chunks_are_spans_of_one_trace(listed: Path, tiny_model: Path) -> None:
    out = listed.parent / "out"
    with receiver() as found:
        environment = {**found.environment, "TRACEPARENT": PARENT}
        done = vea(
            *("score", listed, "--out", out, "--model", tiny_model, "--workers", 0),
            *("--chunk-size", 2),
            env=environment,
        )
    assert done.returncode == 0, done.stderr
    (whole,) = found.named("vea.score")
    assert whole.parent_id == "b7ad6b7169203331"
    assert {span.trace_id for span in found.spans} == {"0af7651916cd43dd8448eb211c80319c"}
    assert {span.service for span in found.spans} == {"vea-score"}
    assert whole.attributes == {"vea.list": str(listed), "vea.out": str(out)}
    phases = {name: found.named(f"vea.score.{name}")[0] for name in ("list", "work", "finish")}
    assert {phase.parent_id for phase in phases.values()} == {whole.span_id}
    assert phases["list"].attributes["vea.images"] == 5
    chunks = found.named("vea.score.chunk")
    assert {chunk.parent_id for chunk in chunks} == {phases["work"].span_id}
    told = {c.attributes["vea.part"]: c.attributes["vea.images"] for c in chunks}
    assert told == {f"_run/part-0000{index}.parquet": rows for index, rows in enumerate((2, 2, 1))}
    assert sum(chunk.attributes["vea.failed"] for chunk in chunks) == 1
    images = {point["vea.status"]: number for point, number in found.metrics["vea.score.images"]}
    assert images == {"ok": 4, "failed": 1}
    assert found.metrics["vea.score.chunk.duration"] == [({}, 3)]


def test_a_run_that_is_watched_writes_the_same(listed: Path, tiny_model: Path) -> None:
    job = ScoreJob(str(listed), str(listed.parent / "plain"), model=tiny_model)
    score_list(job)
    with receiver() as found:
        vea(
            *("score", listed, "--out", listed.parent / "seen", "--model", tiny_model),
            *("--workers", 0),
            env=found.environment,
        )
    assert found.named("vea.score")
    plain, seen = (pq.read_table(listed.parent / name) for name in ("plain", "seen"))
    assert seen.equals(plain)
