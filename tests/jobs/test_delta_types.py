"""Values that come out of a Delta table as they went in, or are refused before a run."""

import datetime
from decimal import Decimal

import duckdb
import pandas
import pyarrow as pa
import pytest
from finished_runs import emotions, write_run

from handler.values.emotions import MIKELS
from jobs.output import parquet
from jobs.output.delta import check_columns, commit_run
from jobs.output.delta_types import DeltaTypeError
from jobs.storage.stores import Stores

deltalake = pytest.importorskip("deltalake")

MOMENT = datetime.datetime(2026, 11, 22, 1, 2, 3, 456)


def columns(kind):
    return parquet.schema(MIKELS.labels, extra=pa.schema([("extra", kind)]), boxes=False)


@pytest.fixture
def commit(tmp_path):
    """Commits one run of values of a type, and checks it beforehand as `vea score` does."""
    table = str(tmp_path / "table")

    def run(date, kind, values):
        out = tmp_path / f"dt={date}"
        rows = [
            {**row, "extra": value}
            for row, value in zip(emotions(awe=len(values)), values, strict=True)
        ]
        write_run(out, rows, columns=columns(kind))
        numbers = pa.array(values, kind)
        if pa.types.is_timestamp(kind):
            numbers = numbers.cast(pa.int64())
        s3 = Stores()
        check_columns(table, str(out), columns(kind), ((v,) for v in numbers.to_pylist()), s3)
        assert commit_run(str(out), table, s3)

    run.table = table
    return run


def read_back(table):
    """The column as several readers give it."""
    found = deltalake.DeltaTable(table)
    dataset = found.to_pyarrow_dataset()  # noqa: F841 - DuckDB finds it by its name
    query = "select extra from dataset order by dt, position"
    by_duckdb = [row[0] for row in duckdb.sql(query).fetchall()]
    frame = found.to_pandas(types_mapper=pandas.ArrowDtype).sort_values(["dt", "position"])
    by_pandas = [None if value is pandas.NA else value for value in frame["extra"]]
    rows = found.to_pyarrow_table(columns=["dt", "position", "extra"])
    by_arrow = rows.sort_by([("dt", "ascending"), ("position", "ascending")])["extra"].to_pylist()
    found_by = {"duckdb": by_duckdb, "pandas": by_pandas, "pyarrow": by_arrow}
    try:
        import polars  # noqa: PLC0415 - where it is installed
    except ModuleNotFoundError:
        return found_by
    lazy = polars.scan_delta(table).sort("dt", "position").select("extra").collect()
    return {**found_by, "polars": lazy["extra"].to_list()}


KEPT = {
    "text": (pa.string(), ["007", None], pa.string()),
    "large text": (pa.large_string(), ["007"], pa.string()),
    "nothing": (pa.null(), [None], pa.string()),
    "int8": (pa.int8(), [-128, 127], pa.int8()),
    "int64": (pa.int64(), [2**63 - 1], pa.int64()),
    "uint8": (pa.uint8(), [255], pa.int16()),
    "uint32": (pa.uint32(), [2**32 - 1], pa.int64()),
    "float": (pa.float32(), [0.5], pa.float32()),
    "double": (pa.float64(), [0.1], pa.float64()),
    "half": (pa.float16(), [0.5], pa.float32()),
    "bool": (pa.bool_(), [True, None], pa.bool_()),
    "bytes": (pa.binary(), [b"a"], pa.binary()),
    "date": (pa.date32(), [MOMENT.date()], pa.date32()),
    "microseconds": (pa.timestamp("us"), [MOMENT], pa.timestamp("us")),
    "nanoseconds": (pa.timestamp("ns"), [MOMENT], pa.timestamp("us")),
    "seconds": (pa.timestamp("s"), [MOMENT.replace(microsecond=0)], pa.timestamp("us")),
    "decimal": (pa.decimal128(5, 2), [Decimal("1.25")], pa.decimal128(5, 2)),
    "list": (pa.list_(pa.int32()), [[1, 2]], pa.list_(pa.int32())),
}


@pytest.mark.parametrize("name", KEPT)
def test_values_of_every_type_come_back_as_they_were(commit, name):
    kind, values, _ = KEPT[name]
    commit("2026-11-22", kind, values)
    for reader, found in read_back(commit.table).items():
        assert [list(v) if isinstance(kind, pa.ListType) else v for v in found] == values, reader


WIDENED = [
    (pa.int64(), pa.int32(), [1], [2]),
    (pa.float64(), pa.float32(), [0.25], [0.5]),
    (pa.float64(), pa.int32(), [0.25], [7]),
    (pa.int64(), pa.uint32(), [1], [2**32 - 1]),
    (pa.timestamp("us"), pa.timestamp("ns"), [MOMENT], [MOMENT]),
    (pa.string(), pa.null(), ["a"], [None]),
    (pa.int64(), pa.null(), [1], [None]),
]


@pytest.mark.parametrize(("first", "second", "before", "after"), WIDENED)
def test_a_narrower_type_is_widened_to_the_table_s(commit, first, second, before, after):
    commit("2026-11-22", first, before)
    commit("2026-11-23", second, after)
    for reader, found in read_back(commit.table).items():
        assert found == [*before, *after], reader


REFUSED = [
    (pa.int64(), pa.float64(), [1], [0.5]),
    (pa.int64(), pa.string(), [7], ["007"]),
    (pa.string(), pa.int64(), ["007"], [7]),
    (pa.float64(), pa.int64(), [0.5], [2**53 + 1]),
    (pa.int32(), pa.int64(), [1], [2**40]),
    (pa.float32(), pa.float64(), [0.5], [0.1]),
    (pa.bool_(), pa.int64(), [True], [2]),
    (pa.timestamp("us"), pa.string(), [MOMENT], ["yesterday"]),
    (pa.timestamp("us"), pa.timestamp("us", "UTC"), [MOMENT], [MOMENT]),
    (pa.list_(pa.int64()), pa.list_(pa.float64()), [[1]], [[0.5]]),
]


@pytest.mark.parametrize(("first", "second", "before", "after"), REFUSED)
def test_a_type_that_would_change_values_is_refused(commit, first, second, before, after):
    commit("2026-11-22", first, before)
    with pytest.raises(DeltaTypeError, match="the column 'extra' holds") as caught:
        commit("2026-11-23", second, after)
    assert "\n" not in str(caught.value)
    assert read_back(commit.table)["pyarrow"] == before


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.uint64(), 2**64 - 1),
        (pa.time64("us"), datetime.time(1, 2)),
        (pa.duration("s"), datetime.timedelta(seconds=3)),
        (pa.list_(pa.timestamp("ns")), [MOMENT]),
        (pa.struct([("at", pa.time32("s"))]), {"at": datetime.time(1)}),
    ],
)
def test_what_no_reader_reads_is_refused_before_the_run(commit, kind, value):
    with pytest.raises(DeltaTypeError, match=r"the column 'extra' holds .* cannot read"):
        commit("2026-11-22", kind, [value])


def test_nanoseconds_that_would_be_lost_are_refused_before_the_run(commit):
    with pytest.raises(DeltaTypeError, match="the column 'extra' has values with nanoseconds"):
        commit("2026-11-22", pa.timestamp("ns"), [pandas.Timestamp(1_000), pandas.Timestamp(1)])
    assert not deltalake.DeltaTable.is_deltatable(commit.table)
