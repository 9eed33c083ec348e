"""`--columns`: what finished rows hold, and in which order, while the guarantees stay."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from finished_runs import emotions, failed, scored, write_run
from part_rows import IDENTITY

from handler.values.emotions import MIKELS
from jobs.output import parquet
from jobs.output.chosen_columns import ALWAYS, choose_columns, chosen_schema
from jobs.output.delta import commit_run
from jobs.output.erasure import erase
from jobs.output.ledger import LedgerError
from jobs.output.parquet import ColumnError
from jobs.output.selection import Selection
from jobs.report.finished_run import ReportError
from jobs.report.reading import read_run
from jobs.run.driver import score_list
from jobs.storage.folders import LocalFolder
from jobs.storage.stores import Stores
from jobs.values.job import ScoreJob
from tests.program import vea

COLUMNS = parquet.schema(
    MIKELS.labels, extra=pa.schema([("sku", pa.string()), ("day", pa.date32())]), boxes=False
)
PROBABILITIES = tuple(f"p_{label}" for label in MIKELS.labels)


def choose(*wanted, columns=COLUMNS):
    return choose_columns(columns, wanted, extra=("sku", "day"))


def test_named_columns_come_in_their_order_with_those_that_are_always_there():
    assert choose("p_awe", "etag") == (*ALWAYS, "p_awe", "etag", "sku", "day")
    assert choose("day", "emotion", "image", "p_awe") == (
        *("position", "status", "stage", "reason_kind"),
        *("day", "emotion", "image", "p_awe", "sku"),
    )
    assert choose() == (*ALWAYS, "sku", "day")


def test_all_columns_in_their_usual_order_are_no_choice():
    assert choose(*COLUMNS.names) is None
    assert choose_columns(COLUMNS, None, extra=()) is None
    assert chosen_schema(COLUMNS, None).equals(COLUMNS)
    # What checks the columns of a Delta table finds those of the list at the end.
    assert chosen_schema(COLUMNS, ("sku", "status", "day")).names == ["status", "sku", "day"]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (["emotions"], "'emotions', which is no column of the result; there are position, image, "),
        (["boxes"], r"'boxes', which is no column of the result \(it comes with --boxes\)"),
        (["embedding"], "comes with --embeddings"),
        (["p_awe", "p_awe"], "names 'p_awe' twice"),
    ],
)
def test_names_that_mean_nothing_are_refused(wanted, said):
    with pytest.raises(ColumnError, match=said):
        choose(*wanted)


def test_a_column_that_an_option_asks_for_is_not_left_out_in_silence():
    columns = parquet.schema(MIKELS.labels, extra=pa.schema([]), boxes=True, embedding_size=4)
    assert choose_columns(columns, ["boxes", "embedding"], extra=()) == (
        *ALWAYS,
        "boxes",
        "embedding",
    )
    with pytest.raises(ColumnError, match="--embeddings gives the column 'embedding'"):
        choose_columns(columns, ["boxes"], extra=())


def test_the_choice_belongs_to_the_run_and_no_choice_does_not():
    assert "columns" not in IDENTITY.to_dict()
    assert replace(IDENTITY, columns=("position",)).run_id != IDENTITY.run_id


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory, photo, encode) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(3):
        (folder / f"{number}.png").write_bytes(encode(photo(number), "PNG"))
    (folder / "list.csv").write_text("image,post\n0.png,a\nnone.png,b\n2.png,c\n1.png,d\n")
    return folder / "list.csv"


def test_rows_are_those_of_a_run_without_the_option(
    listed: Path, tiny_model: Path, tmp_path: Path
) -> None:
    job = ScoreJob(str(listed), str(tmp_path / "all"), model=tiny_model, chunk_size=2)
    score_list(job)
    chosen = replace(job, out=str(tmp_path / "some"), columns=["post", "p_fear", "width"])
    summary = score_list(chosen)
    assert (summary.ok, summary.failed) == (3, 1)
    whole, table = (pq.read_table(tmp_path / name) for name in ("all", "some"))
    assert table.column_names == [*ALWAYS, "post", "p_fear", "width"]
    assert table.equals(whole.select(table.column_names))
    manifest = json.loads((tmp_path / "some" / "_manifest.json").read_text())
    assert manifest["settings"]["columns"] == table.column_names
    assert score_list(chosen).scored == 0, "it is the same run"
    with pytest.raises(LedgerError, match="--columns differs"):
        score_list(replace(chosen, columns=["p_fear"]))


def test_the_command_takes_names_with_commas_or_one_by_one(
    listed: Path, tiny_model: Path, tmp_path: Path
) -> None:
    command = ["score", listed, "--model", tiny_model, "--workers", 0, "--keep", ""]
    done = vea(*command, "--out", tmp_path / "a", "--columns", "p_awe,p_fear", "--columns", "etag")
    assert done.returncode == 0, done.stderr
    assert pq.read_table(tmp_path / "a").column_names == [*ALWAYS, "p_awe", "p_fear", "etag"]
    done = vea(*command, "--out", tmp_path / "b", "--columns", "")
    assert pq.read_table(tmp_path / "b").column_names == list(ALWAYS)
    refused = vea(*command, "--out", tmp_path / "c", "--columns", "joy")
    assert refused.returncode == 1
    assert "no column of the result; there are position, image, status" in refused.stderr
    assert not (tmp_path / "c" / "_run").exists()


def test_rows_are_removed_and_counted_anew(tmp_path: Path) -> None:
    rows = [scored("awe", sku="alice"), scored("fear", sku="bob"), failed("fetch", "missing")]
    write_run(tmp_path, rows, chosen=(*ALWAYS, "sku"))
    assert erase(LocalFolder(str(tmp_path)), Selection.parse(["sku=alice"], [])) == 1
    manifest = json.loads((tmp_path / "_manifest.json").read_text())
    assert manifest["status"] == {"failed": 1, "ok": 1}
    assert manifest["reasons"] == {"fetch/missing": 1}
    assert manifest["emotions"] == {"fear": 1}


def test_a_report_is_made_of_columns_in_any_order_or_says_which_it_lacks(tmp_path: Path) -> None:
    rows = [scored("awe", 0.9), scored("fear", 0.5)]
    columns = (*ALWAYS, "sku", "polarity", *reversed(PROBABILITIES))
    write_run(tmp_path / "a", rows, chosen=columns)
    run = read_run(str(tmp_path / "a"), Stores())
    assert run.labels == MIKELS.labels
    assert run.confidence == pytest.approx(0.7)
    assert run.with_face is None
    with pytest.raises(ReportError, match="leave out with --columns: etag, objects"):
        read_run(str(tmp_path / "a"), Stores(), examples=2)
    write_run(tmp_path / "b", rows, chosen=(*ALWAYS, "p_awe"))
    with pytest.raises(ReportError, match="leave out with --columns: polarity"):
        read_run(str(tmp_path / "b"), Stores())


def test_a_delta_table_is_partitioned_by_the_run_even_where_rows_do_not_name_it(
    tmp_path: Path,
) -> None:
    deltalake = pytest.importorskip("deltalake")
    manifest = write_run(tmp_path / "out", emotions(awe=2), chosen=ALWAYS)
    table = str(tmp_path / "table")
    assert commit_run(str(tmp_path / "out"), table, Stores())
    assert not commit_run(str(tmp_path / "out"), table, Stores())
    found = deltalake.DeltaTable(table).to_pyarrow_table()
    assert found["run_id"].to_pylist() == [manifest["run_id"]] * 2
    assert set(found.column_names) == {*ALWAYS, "run_id"}
