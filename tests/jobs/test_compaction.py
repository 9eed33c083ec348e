import hashlib
import io
import threading
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from part_rows import COLUMNS, row, rows, write_parts

from jobs.output import compaction, parquet
from jobs.output.compaction import PartError, compact
from jobs.storage.folders import LocalFolder, ObjectMissing


@pytest.fixture
def folder(tmp_path):
    return LocalFolder(str(tmp_path))


def written(folder):
    return {name: folder.read(name) for name in folder.list("images-")}


def read(folder):
    tables = [pq.read_table(io.BytesIO(data)) for _, data in sorted(written(folder).items())]
    return [dict(r) for r in pa.concat_tables(tables).to_pylist()]


def test_all_rows_come_out_once_and_in_order(folder):
    parts = write_parts(folder, 25, size=3)
    files, counts = compact(folder, parts, rows_per_file=10)
    assert [(f.name, f.rows) for f in files] == [
        ("images-00000.parquet", 10),
        ("images-00001.parquet", 10),
        ("images-00002.parquet", 5),
    ]
    expected = parquet.read_part(parquet.encode(rows(0, 25), COLUMNS)).to_pylist()
    assert read(folder) == expected
    assert counts.rows == 25


def test_files_are_described_as_they_are(folder):
    files, _ = compact(folder, write_parts(folder, 25, size=3), rows_per_file=10)
    for file in files:
        data = folder.read(file.name)
        assert (file.bytes, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert pq.ParquetFile(io.BytesIO(data)).metadata.num_rows == file.rows


def test_rows_are_counted(folder):
    _, counts = compact(folder, write_parts(folder, 25, size=3))
    assert counts.status == {"ok": 20, "failed": 5}
    assert counts.reasons == {"fetch/missing": 5}
    assert counts.emotions.total() == 20
    assert counts.emotions["amusement"] == sum(r.get("emotion") == "amusement" for r in rows(0, 25))


def test_row_groups_are_whole_but_the_last_of_a_file(folder):
    files, _ = compact(folder, write_parts(folder, 50, size=3), rows_per_file=20, rows_per_group=8)
    groups = []
    for file in files:
        metadata = pq.ParquetFile(io.BytesIO(folder.read(file.name))).metadata
        groups.append([metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)])
    assert groups == [[8, 8, 4], [8, 8, 4], [8, 2]]


def test_by_default_row_groups_have_65536_rows(folder):
    # Few columns, since a hundred thousand rows of all are slow to make.
    total = 70_000
    table = pa.table(
        {
            "position": pa.array(range(total)),
            "status": ["ok"] * total,
            "stage": pa.nulls(total, pa.string()),
            "reason_kind": pa.nulls(total, pa.string()),
            "emotion": ["awe"] * total,
        }
    )
    data = io.BytesIO()
    pq.write_table(table, data)
    folder.write("_run/part-00000.parquet", data.getvalue())
    files, _ = compact(folder, ["_run/part-00000.parquet"])
    metadata = pq.ParquetFile(io.BytesIO(folder.read(files[0].name))).metadata
    assert [metadata.row_group(i).num_rows for i in range(2)] == [65_536, 70_000 - 65_536]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    total=st.integers(0, 60),
    sizes=st.tuples(st.integers(1, 61), st.integers(1, 61)),
    per_file=st.integers(1, 70),
)
def test_bytes_do_not_depend_on_how_rows_were_divided(tmp_path, total, sizes, per_file):
    found = []
    for size in sizes:
        folder = LocalFolder(str(tmp_path / f"{total}-{per_file}-{size}"))
        files, _ = compact(
            folder, write_parts(folder, total, size), rows_per_file=per_file, rows_per_group=8
        )
        assert sum(file.rows for file in files) == total
        assert len(files) == max(1, -(-total // per_file))
        found.append({file.name: folder.read(file.name) for file in files})
    assert found[0] == found[1]


def test_bytes_do_not_depend_on_the_parts_where_pages_are_full(tmp_path):
    made = [{**row(position), "image": f"{position}" * 1000} for position in range(3000)]
    found = []
    for size in (700, 1000):
        folder, names = LocalFolder(str(tmp_path / f"{size}")), []
        for start in range(0, len(made), size):
            names.append(f"_run/part-{start}.parquet")
            folder.write(names[-1], parquet.encode(made[start : start + size], COLUMNS))
        files, _ = compact(folder, names)
        found.append(folder.read(files[0].name))
    assert found[0] == found[1]


def test_a_run_without_rows_has_a_file_with_the_columns(folder):
    files, counts = compact(folder, write_parts(folder, 0, size=3))
    assert [file.rows for file in files] == [0]
    assert pq.read_schema(io.BytesIO(folder.read(files[0].name))).names == COLUMNS.names
    assert counts.rows == 0


def test_columns_can_be_left_out_whatever_their_case(folder):
    compact(folder, write_parts(folder, 4, size=3), leave_out=["Model_Version", "dt"])
    names = set(read(folder)[0])
    assert names == set(COLUMNS.names) - {"model_version"}


def test_files_are_closed_early_where_they_grow_too_large(folder):
    files, _ = compact(folder, write_parts(folder, 20, size=3), rows_per_group=8, bytes_per_file=1)
    assert [file.rows for file in files] == [8, 8, 4]
    assert [r["position"] for r in read(folder)] == list(range(20))


@pytest.mark.parametrize("trouble", ["lost", "twice", "other run's", "cut", "other columns"])
def test_a_part_that_does_not_belong_there_is_told(folder, trouble):
    parts = write_parts(folder, 12, size=3)
    whole = folder.read(parts[2])
    narrow = pa.schema([item for item in COLUMNS if item.name != "sku"])
    if trouble == "lost":
        bad = parquet.encode([row(6), row(8)], COLUMNS)
    elif trouble == "twice":
        bad = parquet.encode([row(6), row(7), row(7)], COLUMNS)
    elif trouble == "other run's":
        bad = parquet.encode(rows(8, 12), COLUMNS)
    else:
        bad = whole[:-9] if trouble == "cut" else parquet.encode(rows(6, 9), narrow)
    folder.write(parts[2], bad)
    with pytest.raises(PartError, match=r"_run/part-00002\.parquet .* is damaged") as caught:
        compact(folder, parts)
    assert "\n" not in str(caught.value)
    assert written(folder) == {}


def test_a_missing_part_is_told_as_such(folder):
    parts = write_parts(folder, 12, size=3)
    folder.delete([parts[1]])
    with pytest.raises(ObjectMissing, match="part-00001"):
        compact(folder, parts)


def test_only_few_parts_are_in_memory_at_a_time(folder):
    """Reading must not run away from writing, nor be one part after the other."""
    parts = write_parts(folder, 200, size=1)
    lock, under_way, most, begun = threading.Lock(), 0, 0, 0
    ahead = []

    class Slow(LocalFolder):
        def read(self, name):
            nonlocal under_way, most, begun
            with lock:
                under_way, begun = under_way + 1, begun + 1
                most = max(most, under_way)
            time.sleep(0.005)
            data = super().read(name)
            with lock:
                under_way -= 1
            return data

        def write(self, name, data):
            ahead.append(begun - 10 * (len(ahead) + 1))
            time.sleep(0.05)
            super().write(name, data)

    compact(Slow(folder.location), parts, rows_per_file=10)
    assert 1 < most <= compaction.READERS
    assert max(ahead) <= compaction.READERS + 1
