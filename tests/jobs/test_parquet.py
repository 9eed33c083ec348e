import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from handler.values.emotions import EKMAN, MIKELS, POLARITY
from jobs.output import parquet

ORIGIN = {"model_name": "m", "model_version": "1", "model_digest": "d", "run_id": "r"}
NONE = pa.schema([])


def scored(position, **more):
    return {"position": position, "image": "a", "status": "ok", "emotion": "awe", **ORIGIN, **more}


def failed(position, kind):
    why = {"stage": "fetch", "reason_kind": kind, "reason": "no"}
    return {"position": position, "image": "a", "status": "failed", **why, **ORIGIN}


@pytest.mark.parametrize("wheel", [MIKELS, EKMAN, POLARITY], ids=lambda wheel: wheel.name)
def test_every_wheel_has_a_column_for_each_emotion_and_none_twice(wheel):
    names = parquet.schema(wheel.labels, extra=NONE, boxes=True).names
    assert len(names) == len(set(names))
    assert {f"p_{label}" for label in wheel.labels} | {"p_positive"} <= set(names)


def test_the_docstring_tells_of_every_column():
    text = parquet.schema.__doc__
    for name in parquet.schema((), extra=NONE, boxes=True).names:
        assert f"`{name}`" in text


def test_floats_are_split_into_byte_streams_and_labels_have_dictionaries():
    box = {"x1": 0, "y1": 0, "x2": 5, "y2": 5, "label": "dog", "score": 0.5, "attention": 0.1}
    row = scored(0, p_awe=0.5, boxes=[box])
    data = parquet.encode([row], parquet.schema(MIKELS.labels, extra=NONE, boxes=True))
    group = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert "BYTE_STREAM_SPLIT" in columns["p_awe"].encodings
    assert "BYTE_STREAM_SPLIT" in columns["boxes.list.element.x1"].encodings
    assert columns["emotion"].has_dictionary_page
    assert columns["boxes.list.element.label"].has_dictionary_page
    # Every image is different: a dictionary of them would be the column over again.
    assert not columns["image"].has_dictionary_page


def test_boxes_are_a_column_only_if_asked_for():
    assert "boxes" not in parquet.schema(MIKELS.labels, extra=NONE, boxes=False).names
    box = {"x1": 1, "y1": 2, "x2": 3, "y2": 4, "label": "dog", "score": 0.5, "attention": 0.25}
    rows = [scored(0, objects=1, boxes=[box]), scored(1, objects=0, boxes=[]), failed(2, "missing")]
    data = parquet.encode(rows, parquet.schema(MIKELS.labels, extra=NONE, boxes=True))
    assert parquet.read_part(data)["boxes"].to_pylist() == [[box], [], None]


def test_columns_of_the_list_come_last_with_their_types():
    extra = pa.schema(
        [("sku", pa.string()), ("price", pa.float64()), ("tags", pa.list_(pa.int8()))]
    )
    columns = parquet.schema(MIKELS.labels, extra=extra, boxes=True)
    assert columns.names[-4:] == ["boxes", "sku", "price", "tags"]
    data = parquet.encode(
        [scored(0, sku="007", price=1.5, tags=[1]), failed(1, "missing")], columns
    )
    table = parquet.read_part(data)
    assert table.schema.equals(columns)
    assert table.select(["sku", "price", "tags"]).to_pylist() == [
        {"sku": "007", "price": 1.5, "tags": [1]},
        {"sku": None, "price": None, "tags": None},
    ]


def test_what_a_list_says_of_its_own_file_is_not_taken_over():
    item = pa.field(
        "kind",
        pa.dictionary(pa.int8(), pa.string()),
        nullable=False,
        metadata={"PARQUET:field_id": "1"},
    )
    taken = parquet.schema(MIKELS.labels, extra=pa.schema([item]), boxes=False).field("kind")
    assert (taken.type, taken.nullable, taken.metadata) == (pa.string(), True, None)


@pytest.mark.parametrize("name", ["emotion", "Status", "p_awe", "boxes", "run_id", "sku"])
def test_a_column_of_the_list_cannot_take_the_place_of_another(name):
    extra = pa.schema([("SKU", pa.string()), (name, pa.string())])
    with pytest.raises(parquet.ColumnError, match=f"'{name}' .* --keep") as caught:
        parquet.schema(MIKELS.labels, extra=extra, boxes=False)
    assert "\n" not in str(caught.value)


def test_a_column_without_a_name_is_refused():
    with pytest.raises(parquet.ColumnError, match="without a name"):
        parquet.schema(MIKELS.labels, extra=pa.schema([("", pa.string())]), boxes=False)


def test_a_part_is_counted_alike_when_written_and_when_read_again():
    rows = [scored(0), failed(1, "missing"), failed(2, "forbidden"), failed(3, "missing")]
    data = parquet.encode(rows, parquet.schema(MIKELS.labels, extra=NONE, boxes=False))
    written = parquet.report_rows("part", len(data), rows)
    assert written == parquet.report_part("part", data)
    assert (written.rows, written.failed, written.bytes) == (4, 3, len(data))
    assert written.reasons == {"fetch/forbidden": 1, "fetch/missing": 2}


def test_times_are_reported_but_not_written():
    rows = [scored(0)]
    data = parquet.encode(rows, parquet.schema(MIKELS.labels, extra=NONE, boxes=False))
    report = parquet.report_rows("part", len(data), rows, seconds=2.5, busy=1.5)
    assert (report.seconds, report.busy) == (2.5, 1.5)
    assert (parquet.report_part("part", data).seconds, parquet.report_part("part", data).busy) == (
        0,
        0,
    )


@pytest.mark.parametrize("kind", ["text", "cut", "other columns"])
def test_what_is_not_a_part_is_not_counted(kind):
    whole = parquet.encode([scored(0)], parquet.schema(MIKELS.labels, extra=NONE, boxes=False))
    other = io.BytesIO()
    pq.write_table(pa.table({"a": [1]}), other)
    data = {"text": b"nothing", "cut": whole[:-20], "other columns": other.getvalue()}[kind]
    with pytest.raises(ValueError, match=r"."):
        parquet.report_part("part-00000.parquet", data)
