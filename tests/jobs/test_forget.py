"""Rows that must go: no reader finds them, all others stay, and a killed removal is completed."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import re
from contextlib import closing

import duckdb
import pandas as pd
import pyarrow as pa
import pytest
from finished_runs import failed, scored, write_run

from handler.values.emotions import MIKELS
from jobs.output import parquet
from jobs.output.delta import commit_run
from jobs.output.erasure import ErasureError, delete_run, erase, plan
from jobs.output.finished_runs import find_runs
from jobs.output.selection import Selection, SelectionError
from jobs.storage.folders import LocalFolder, open_folder
from jobs.storage.stores import Stores
from tests.program import vea

deltalake = pytest.importorskip("deltalake")

ALICE = Selection.parse(["sku=alice"], [])


def night(folder, skus, **options):
    rows = [scored("awe", sku=sku) for sku in skus]
    return write_run(folder, [*rows, failed("fetch", "missing")], rows_per_file=2, **options)


@pytest.fixture
def run(tmp_path):
    """Five rows in three files; two are alice's, in different files."""
    folder = tmp_path / "dt=2026-11-20"
    night(folder, ["alice", "bob", "bob", "alice"])
    return LocalFolder(str(folder))


def rows_of(location):
    return pd.read_parquet(location).drop(columns="dt", errors="ignore")


def test_no_reader_finds_the_rows_and_all_others_are_as_they_were(run):
    before = rows_of(run.location)
    assert erase(run, ALICE) == 2
    after = rows_of(run.location)
    pd.testing.assert_frame_equal(
        after, before[before["sku"] != "alice"].reset_index(drop=True), check_exact=True
    )
    files = f"{run.location}/*.parquet"
    assert duckdb.sql(f"select count(*) from '{files}'").fetchall() == [(3,)]
    assert b"alice" not in b"".join(run.read(n) for p in ("", "_run/") for n in run.list(p))


def test_polars_does_not_find_them_either(run):
    polars = pytest.importorskip("polars")
    erase(run, ALICE)
    assert set(polars.read_parquet(f"{run.location}/*.parquet")["sku"]) == {"bob", None}


def test_the_manifest_agrees_and_says_how_many_but_not_which(run):
    erase(run, ALICE)
    manifest = json.loads(run.read("_manifest.json"))
    assert manifest["rows"] == sum(file["rows"] for file in manifest["files"]) == 3
    assert manifest["status"] == {"failed": 1, "ok": 2}
    assert manifest["emotions"] == {"awe": 2}
    assert manifest["removed"] | {"last": ""} == {"rows": 2, "times": 1, "last": ""}
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", manifest["removed"]["last"])
    assert erase(run, Selection.parse(["sku=bob"], [])) == 2
    assert json.loads(run.read("_manifest.json"))["removed"]["rows"] == 4
    assert erase(run, Selection.parse(["sku=nobody"], [])) == 0
    assert json.loads(run.read("_manifest.json"))["removed"]["times"] == 2
    report = vea("report", run.location)
    assert report.returncode == 0, report.stderr


class Dying(LocalFolder):
    """Ends its process, as `kill -9` would, at the change of the given number."""

    def __init__(self, location, changes):
        super().__init__(location)
        self.left = changes

    def _change(self):
        self.left -= 1
        if self.left < 0:
            os._exit(9)

    def write(self, name, data):
        self._change()
        super().write(name, data)

    def delete(self, names):
        self._change()
        super().delete(names)


def in_a_process(function, *arguments):
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def content(location):
    with closing(Stores()) as s3:
        folder = open_folder(str(location), s3)
        return {n: folder.read(n) for p in ("", "_run/") for n in folder.list(p)}


def test_a_removal_that_is_killed_anywhere_is_completed_by_the_same_command(tmp_path):
    whole = tmp_path / "whole" / "dt=2026-11-20"
    night(whole, ["alice", "bob", "bob", "alice"])
    erase(LocalFolder(str(whole)), ALICE)
    for changes in range(20):
        folder = tmp_path / str(changes) / "dt=2026-11-20"
        night(folder, ["alice", "bob", "bob", "alice"])
        ended = in_a_process(lambda c=changes, f=folder: erase(Dying(str(f), c), ALICE))
        erase(LocalFolder(str(folder)), ALICE)
        assert content(folder) == content(whole)
        if ended == 0:
            break
    assert changes > 3, "there were several steps to be killed at"


def test_a_deletion_of_a_run_that_is_killed_anywhere_is_completed(tmp_path):
    for changes in range(20):
        folder = tmp_path / f"dt=2026-11-{changes + 1:02d}"
        night(folder, ["alice", "bob"])
        ended = in_a_process(lambda c=changes, f=folder: delete_run(Dying(str(f), c)))
        with closing(Stores()) as s3:
            found = [run for run in find_runs(str(tmp_path), s3) if run.location == str(folder)]
        assert all(run.finished or run.erasing for run in found), "it is known as one to delete"
        if folder.exists():
            delete_run(LocalFolder(str(folder)))
        assert not folder.exists()
        if ended == 0:
            break
    assert changes > 2


def test_two_processes_do_not_bring_rows_back_to_each_other(run):
    mine = {"host": os.uname().nodename, "pid": 1, "since": "2999-01-01T00:00:00+00:00"}
    run.write("_run/erasing.json", json.dumps(mine).encode())
    with pytest.raises(ErasureError, match=r"process 1 on .* has been removing rows"):
        erase(run, ALICE)
    assert plan(run, ALICE).interrupted
    assert rows_of(run.location)["sku"].tolist().count("alice") == 2
    run.write(
        "_run/erasing.json",
        json.dumps(mine | {"host": "x", "since": "2020-01-01T00:00:00+00:00"}).encode(),
    )
    assert erase(run, ALICE) == 2, "what has been there for hours was left by a kill"


def test_values_are_compared_as_their_columns_type(tmp_path):
    extra = pa.schema([("n", pa.int16()), ("adult", pa.bool_()), ("weight", pa.float32())])
    columns = parquet.schema(MIKELS.labels, extra=extra, boxes=False)
    rows = [scored("awe", n=7, adult=True), scored("awe", n=None, adult=False)]
    write_run(tmp_path, rows, columns=columns)
    run = LocalFolder(str(tmp_path))
    selected = {
        condition: plan(run, Selection.parse([condition], [])).selected
        for condition in ("n=7", "n=007", "n=70", "adult=false", "adult=True", "emotion=awe")
    }
    assert list(selected.values()) == [1, 1, 0, 1, 1, 2]
    for wrong in ("n=x", "n=70000", "adult=yes", "weight=1.5"):
        with pytest.raises(SelectionError, match="column"):
            plan(run, Selection.parse([wrong], []))
    both = Selection.parse(["n=7", "adult=false"], [])
    assert plan(run, both).selected == 0, "several conditions must all hold"


@pytest.mark.parametrize(
    ("where", "images"), [([], []), (["a=1"], ["x.jpg"]), (["a"], []), (["=1"], [])]
)
def test_a_selection_says_clearly_what_it_selects(where, images):
    with pytest.raises(SelectionError):
        Selection.parse(where, images)


def test_the_command_shows_first_and_changes_only_with_yes(tmp_path):
    for day in (20, 21):
        night(tmp_path / f"dt=2026-11-{day}", ["alice", "bob"])
    shown = vea("forget", tmp_path, "--image", "0.jpg")
    assert shown.returncode == 0, shown.stderr
    assert "2 rows of 6 in 2 runs" in shown.stdout
    assert "nothing was changed" in shown.stdout
    assert len(rows_of(tmp_path)) == 6
    (tmp_path / "_gone.txt").write_text("0.jpg\n1.jpg\n")
    done = vea("forget", tmp_path, "--images", tmp_path / "_gone.txt", "--yes")
    assert done.returncode == 0, done.stderr
    assert rows_of(tmp_path)["image"].tolist() == ["2.jpg", "2.jpg"]


def test_a_run_that_is_being_written_is_not_touched_and_nothing_else_is(tmp_path):
    night(tmp_path / "dt=2026-11-20", ["alice"])
    night(tmp_path / "dt=2026-11-21", ["alice"])
    (tmp_path / "dt=2026-11-21" / "_SUCCESS").unlink()
    refused = vea("forget", tmp_path, "--where", "sku=alice", "--yes")
    assert refused.returncode == 1
    assert "dt=2026-11-21 is not finished" in refused.stderr
    assert (rows_of(tmp_path / "dt=2026-11-20")["sku"] == "alice").any()


def test_a_column_that_no_run_has_is_a_mistake(tmp_path):
    night(tmp_path / "dt=2026-11-20", ["alice"])
    refused = vea("forget", tmp_path, "--where", "author=alice")
    assert refused.returncode == 1
    assert "no run below" in refused.stderr
    assert "author" in refused.stderr


def test_a_listing_that_a_run_keeps_forgets_the_image_too(tmp_path, tiny_model, photo, encode):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for number, name in enumerate(("a.jpg", "b.jpg")):
        (photos / name).write_bytes(encode(photo(number), "JPEG"))
    ended = vea("score", photos, "--out", out, "--workers", "0", "--model", tiny_model)
    assert ended.returncode == 0, ended.stderr
    done = vea("forget", out, "--image", photos / "a.jpg", "--yes")
    assert done.returncode == 0, done.stderr
    listed = gzip.decompress((out / "_run" / "list.txt.gz").read_bytes()).decode()
    assert "b.jpg" in listed
    assert "a.jpg" not in listed


def test_runs_are_kept_for_so_many_days(tmp_path):
    for day in (18, 19, 20, 21):
        night(tmp_path / f"dt=2026-11-{day}", ["alice"])
    night(tmp_path / "without-a-date", ["alice"])
    (tmp_path / "dt=2026-11-18" / "_SUCCESS").unlink()
    command = ("retain", tmp_path, "--days", "1", "--date", "2026-11-21")
    shown = vea(*command)
    assert "would be deleted" in shown.stdout
    assert len(list(tmp_path.iterdir())) == 5
    done = vea(*command, "--yes")
    assert done.returncode == 0, done.stderr
    assert "kept, not finished" in done.stdout
    assert "kept, no date" in done.stdout
    kept = sorted(folder.name for folder in tmp_path.iterdir())
    assert kept == ["dt=2026-11-18", "dt=2026-11-20", "dt=2026-11-21", "without-a-date"]


@pytest.fixture
def table(tmp_path):
    for day, skus in ((20, ["alice", "bob"]), (21, ["bob"]), (22, ["alice"])):
        out = tmp_path / "runs" / f"dt=2026-11-{day}"
        night(out, skus)
        with closing(Stores()) as s3:
            commit_run(str(out), str(tmp_path / "table"), s3)
    return tmp_path / "table"


def in_table(table):
    read = deltalake.DeltaTable(str(table)).to_pyarrow_table(columns=["dt", "sku"])
    return sorted((row["dt"], row["sku"] or "") for row in read.to_pylist())


def test_the_delta_table_loses_the_same_rows_and_its_log_does_not_name_them(tmp_path, table):
    command = ("forget", tmp_path / "runs", "--where", "sku=alice", "--delta", table)
    assert "2 rows of 7" in vea(*command).stdout
    done = vea(*command, "--vacuum", "--yes")
    assert done.returncode == 0, done.stderr
    assert in_table(table) == [
        *(("2026-11-20", ""), ("2026-11-20", "bob")),
        *(("2026-11-21", ""), ("2026-11-21", "bob"), ("2026-11-22", "")),
    ]
    assert b"alice" not in b"".join(
        f.read_bytes() for f in (table / "_delta_log").glob("*0[4-9].json")
    )
    assert duckdb.sql(
        f"select count(*) from '{table}/**/*.parquet' where sku = 'alice'"
    ).fetchall() == [(0,)]
    again = vea(*command, "--yes")
    assert again.returncode == 0, again.stderr
    assert len(in_table(table)) == 5


def test_a_run_that_was_kept_long_enough_leaves_the_table_too(tmp_path, table):
    done = vea(
        *("retain", tmp_path / "runs", "--days", "1", "--date", "2026-11-22"),
        *("--delta", table, "--yes"),
    )
    assert done.returncode == 0, done.stderr
    assert {dt for dt, _ in in_table(table)} == {"2026-11-21", "2026-11-22"}


def test_without_any_run_there_is_nothing_to_forget(tmp_path):
    done = vea("forget", tmp_path, "--image", "a.jpg")
    assert (done.returncode, "0 rows of 0 in 0 runs" in done.stdout) == (0, True)
    refused = vea("forget", tmp_path / "none", "--image", "a.jpg")
    assert (refused.returncode, "there is no folder" in refused.stderr) == (1, True)
    assert not (tmp_path / "none").exists()
