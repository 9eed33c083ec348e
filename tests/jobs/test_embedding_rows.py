"""`--embeddings`: a column of the network's fused feature, as readers of the result see it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from part_rows import IDENTITY

from handler.archive.files import read_card
from handler.predictor import Predictor
from handler.values.emotions import MIKELS
from jobs.output import parquet
from jobs.output.delta import commit_run
from jobs.output.erasure import erase
from jobs.output.partitions import PathColumnError
from jobs.output.selection import Selection
from jobs.run.driver import score_list
from jobs.scoring.sources import EndpointSource, OnDevice
from jobs.storage.folders import LocalFolder
from jobs.storage.stores import Stores
from jobs.values.job import EndpointSettings, ScoreJob
from tests.program import vea

RUNTIMES = ("torch", "onnx")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, photo, encode) -> Path:
    """Three pictures and one that is none."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(3):
        (folder / f"{number}.png").write_bytes(encode(photo(number), "PNG"))
    (folder / "3.png").write_bytes(b"<html>not found</html>")
    (folder / "list.txt").write_text("0.png\n1.png\n2.png\n3.png\n")
    return folder


@pytest.fixture(scope="module")
def expected(photos: Path, compiled_model: Path) -> dict[str, list[np.ndarray]]:
    """What `Predictor` says of the three, by runtime."""
    data = [(photos / f"{number}.png").read_bytes() for number in range(3)]
    return {
        runtime: [
            np.array(answer.embedding, np.float16)
            for answer in Predictor.load(compiled_model, runtime=runtime).predict(
                data, embeddings=True
            )
        ]
        for runtime in RUNTIMES
    }


@pytest.fixture(scope="module", params=RUNTIMES)
def run(
    request: pytest.FixtureRequest,
    photos: Path,
    compiled_model: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, Path]:
    """A finished run with embeddings: its runtime and its folder."""
    out = tmp_path_factory.mktemp("out") / request.param
    job = ScoreJob(str(photos / "list.txt"), str(out), model=compiled_model, embeddings=True)
    assert score_list(job, load=OnDevice(runtime=request.param)).complete
    return request.param, out


def test_pyarrow_reads_halves_of_a_fixed_size(run, expected, compiled_model: Path) -> None:
    runtime, out = run
    table = pq.read_table(out)
    size = read_card(compiled_model)[0].network.fused_size
    kind = table.schema.field("embedding").type
    assert (kind.list_size, kind.value_type) == (size, pa.float16())
    found = table["embedding"].to_pylist()
    assert found[3] is None
    assert found[:3] == [array.tolist() for array in expected[runtime]]


def test_pandas_reads_arrays_of_halves(run, expected) -> None:
    runtime, out = run
    found = pd.read_parquet(out)["embedding"].tolist()
    assert found[3] is None
    for row, array in zip(found[:3], expected[runtime], strict=True):
        assert row.dtype == np.float16
        np.testing.assert_array_equal(row, array)


def test_duckdb_reads_lists_of_floats(run, expected) -> None:
    runtime, out = run
    query = f"select embedding, typeof(embedding) from '{out}/*.parquet' order by position"
    found = duckdb.sql(query).fetchall()
    assert found[3] == (None, "FLOAT[]")
    assert [row[0] for row in found[:3]] == [array.tolist() for array in expected[runtime]]


def test_polars_reads_arrays_of_halves(run, expected) -> None:
    runtime, out = run
    column = pl.read_parquet(out / "*.parquet")["embedding"]
    assert column.dtype == pl.Array(pl.Float16, len(expected[runtime][0]))
    found = column.to_list()
    assert found[3] is None
    assert found[:3] == [array.tolist() for array in expected[runtime]]


def test_rows_are_otherwise_those_of_a_run_without(
    run, photos: Path, compiled_model: Path, tmp_path: Path
) -> None:
    runtime, out = run
    manifest = json.loads((out / "_manifest.json").read_text())
    assert manifest["settings"]["embeddings"] is True
    job = ScoreJob(str(photos / "list.txt"), str(tmp_path), model=compiled_model)
    score_list(job, load=OnDevice(runtime=runtime))
    plain, other = pq.read_table(tmp_path), pq.read_table(out)
    assert "embeddings" not in json.loads((tmp_path / "_manifest.json").read_text())["settings"]
    left_out = ["embedding", "run_id"]
    assert other.drop_columns(left_out).equals(plain.drop_columns("run_id"))


def test_a_run_keeps_its_choice() -> None:
    assert "embeddings" not in IDENTITY.to_dict()
    assert replace(IDENTITY, embeddings=True).run_id != IDENTITY.run_id


def test_a_part_without_any_scored_image_has_the_column_too() -> None:
    columns = parquet.schema(MIKELS.labels, extra=pa.schema([]), boxes=False, embedding_size=5)
    row = {"position": 0, "image": "a", "status": "failed"}
    row |= dict.fromkeys(("model_name", "model_version", "model_digest", "run_id"), "x")
    assert parquet.read_part(parquet.encode([row], columns)).schema.equals(columns)


def test_a_delta_table_gets_lists_of_floats(run, expected, tmp_path: Path) -> None:
    deltalake = pytest.importorskip("deltalake")
    runtime, out = run
    assert commit_run(str(out), str(tmp_path), Stores())
    table = deltalake.DeltaTable(tmp_path).to_pyarrow_table().sort_by("position")
    assert table.schema.field("embedding").type.value_type == pa.float32()
    found = table["embedding"].to_pylist()
    assert found == [*(array.tolist() for array in expected[runtime]), None]


def test_rows_are_removed_from_a_run_with_embeddings(run, tmp_path: Path) -> None:
    _, out = run
    shutil.copytree(out, tmp_path / "run")
    folder = LocalFolder(str(tmp_path / "run"))
    assert erase(folder, Selection.parse([], ["1.png"])) == 1
    left, before = pq.read_table(tmp_path / "run"), pq.read_table(out)
    assert left.equals(before.filter(pc.not_equal(before["image"], "1.png")))


def test_the_path_must_not_name_the_column(photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    job = ScoreJob(str(photos / "list.txt"), str(tmp_path / "embedding=a"), model=tiny_model)
    assert score_list(job).complete
    job = replace(job, out=str(tmp_path / "embedding=b"), embeddings=True)
    with pytest.raises(PathColumnError, match="embedding"):
        score_list(job)


def test_a_service_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="gives no embeddings: score with --model"):
        EndpointSource(EndpointSettings("http://127.0.0.1:1", "m")).embedding_size()
    told = vea(
        *("score", "list.txt", "--out", tmp_path, "--embeddings"),
        *("--endpoint", "http://127.0.0.1:1"),
    )
    assert told.returncode == 2
    assert "the service gives none" in told.stderr
