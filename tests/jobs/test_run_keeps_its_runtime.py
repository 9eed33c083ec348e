"""A run is of one runtime: an attempt that would choose another is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from part_rows import IDENTITY

from handler.archive.files import read_card
from jobs.output.ledger import LedgerError
from jobs.run.driver import score_list
from jobs.scoring.sources import ArchiveSource, OnDevice
from jobs.values.job import ScoreJob


@pytest.fixture
def job(tmp_path: Path, compiled_model: Path, photo, encode) -> ScoreJob:
    """Three pictures to be scored with a model that has a compiled form."""
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(encode(photo(number), "PNG"))
    (tmp_path / "list.txt").write_text("0.png\n1.png\n2.png\n")
    return ScoreJob(str(tmp_path / "list.txt"), str(tmp_path / "out"), model=compiled_model)


def test_runs_of_torch_are_identified_as_before_there_were_runtimes() -> None:
    assert "runtime" not in IDENTITY.to_dict()
    assert replace(IDENTITY, runtime="onnx").to_dict()["runtime"] == "onnx"
    assert replace(IDENTITY, runtime="onnx").run_id != IDENTITY.run_id


def test_a_run_is_not_continued_with_another_runtime(job: ScoreJob) -> None:
    summary = score_list(job, load=OnDevice())
    assert summary.complete
    with pytest.raises(LedgerError, match="--runtime differs"):
        score_list(job, load=OnDevice(runtime="torch"))
    assert score_list(job, load=OnDevice(runtime="onnx")).scored == 0, "it is the same run"


def test_a_manifest_names_the_runtime_and_rows_agree_with_those_of_torch(
    job: ScoreJob, tmp_path: Path
) -> None:
    rows = {}
    for runtime in ("torch", "onnx"):
        out = tmp_path / runtime
        score_list(replace(job, out=str(out)), load=OnDevice(runtime=runtime))
        manifest = json.loads((out / "_manifest.json").read_text())
        assert manifest["model"]["runtime"] == runtime
        rows[runtime] = pq.read_table(out).to_pylist()
    for one, other in zip(rows["torch"], rows["onnx"], strict=True):
        for name in one:
            if name.startswith("p_"):
                assert other[name] == pytest.approx(one[name], abs=1e-4)
        assert other["emotion"] == one["emotion"]


def test_workers_get_the_runtime_that_the_driver_chose(compiled_model: Path) -> None:
    # A worker on another machine must not fall back to torch by itself.
    source = ArchiveSource(compiled_model)
    model, _ = source.identify()
    assert (model.runtime, model.digest) == ("onnx", read_card(compiled_model)[2])
    assert source.portable(model).load == OnDevice(runtime="onnx")
