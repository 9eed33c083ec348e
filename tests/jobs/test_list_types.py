import datetime
import decimal
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.lists.columns import ListError
from jobs.lists.image_list import open_list
from jobs.values.chunks import Entry


@pytest.fixture
def write_json(tmp_path):
    def write(*records, name="a.jsonl"):
        path = tmp_path / name
        lines = [r if isinstance(r, str) else json.dumps(r) for r in records]
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return str(path)

    return write


@pytest.fixture
def write_parquet(tmp_path):
    def write(**columns):
        path = tmp_path / "a.parquet"
        pq.write_table(pa.table(columns), path, row_group_size=7_000)
        return str(path)

    return write


def columns_of(images):
    """What the columns that pass through become in the result."""
    rows = [entry.extra for entry in images]
    return {
        item.name: pa.array([row[place] for row in rows], item.type)
        for place, item in enumerate(images.extra)
    }


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson"])
def test_a_json_list_has_an_object_on_each_line(write_json, name):
    path = write_json({"image": "a.jpg", "id": "007"}, "", {"id": "8", "image": "b.jpg"}, name=name)
    with open_list(path) as images:
        assert images.rows == 2
        assert list(images) == [Entry("a.jpg", ("007",)), Entry("b.jpg", ("8",))]


@pytest.mark.parametrize(
    ("values", "kind", "kept"),
    [
        ([True, False, None], pa.bool_(), [True, False, None]),
        ([1, None, -(2**63)], pa.int64(), [1, None, -(2**63)]),
        ([1, 0.5, None], pa.float64(), [1.0, 0.5, None]),
        (["007", None, ""], pa.string(), ["007", None, ""]),
        ([None, None], pa.string(), [None, None]),
        ([1, "a", True, 0.5], pa.string(), ["1", "a", "true", "0.5"]),
        ([True, 1], pa.string(), ["true", "1"]),
        ([1, 2**63], pa.string(), ["1", str(2**63)]),
        ([["\u00e9", 1], {"a": None}], pa.string(), ['["\u00e9", 1]', '{"a": null}']),
        (["half \ud83d of a pair"], pa.string(), ["half \ufffd of a pair"]),
    ],
)
def test_a_json_column_has_the_narrowest_type_that_fits_all_of_it(write_json, values, kind, kept):
    path = write_json(*({"image": f"{i}.jpg", "x": value} for i, value in enumerate(values)))
    with open_list(path) as images:
        assert images.extra == pa.schema([("x", kind)])
        assert columns_of(images)["x"].to_pylist() == kept


def test_a_key_that_only_some_objects_have_is_null_in_the_others(write_json):
    path = write_json({"image": "a"}, {"image": "b", "late": 1}, {"late": 2}, {"image": None})
    with open_list(path) as images:
        assert list(images) == [
            Entry("a", (None,)),
            Entry("b", (1,)),
            Entry("", (2,)),
            Entry("", (None,)),
        ]


@pytest.mark.parametrize("line", ["[1]", "{", '"a.jpg"', "null", "[" * 100_000, "1" * 5_000])
def test_a_line_that_is_no_json_object_is_named_by_its_number(write_json, line):
    path = write_json({"image": "a"}, "", line)
    with (
        pytest.raises(ListError, match=r"^line 3 of the list \S+ is not a JSON object"),
        open_list(path),
    ):
        pass


def test_a_json_list_without_the_column_is_refused_with_those_that_it_has(write_json):
    with (
        pytest.raises(ListError, match="no column 'image': it has link, id"),
        open_list(write_json({"link": "a", "id": 1}), column="image"),
    ):
        pass


def test_a_json_list_with_a_key_for_each_object_is_refused(write_json):
    path = write_json(*({"image": "a", f"user-{i}": 1} for i in range(2_000)))
    with pytest.raises(ListError, match="more than 1000 different keys"), open_list(path):
        pass


def test_an_empty_json_list_has_the_columns_that_are_asked_for(write_json):
    with open_list(write_json(), column="url", keep=["id"]) as images:
        assert (images.rows, images.column, images.extra.names) == (0, "url", ["id"])


numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
plain = st.none() | st.booleans() | numbers | st.integers() | st.text()
anything = st.recursive(plain, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(anything, min_size=1) | st.lists(numbers, min_size=1))
def test_whatever_json_holds_fits_the_type_of_its_column(write_json, values):
    path = write_json(*({"image": value, "x": value} for value in values))
    with open_list(path, column="image") as images:
        assert images.rows == len(values)
        assert len(columns_of(images)["x"]) == len(values)
        pa.array([entry.image for entry in images], pa.string())  # is text that UTF-8 can hold


@pytest.mark.parametrize(
    ("lines", "kind", "values"),
    [
        (("1234567890123456789", "NaN"), pa.int64(), [1234567890123456789, None]),
        (("1234567890123456789", "1.5"), pa.string(), ["1234567890123456789", "1.5"]),
        (("3", "1.5"), pa.float64(), [3.0, 1.5]),
    ],
)
def test_long_ids_are_not_rounded(write_json, lines, kind, values):
    path = write_json(*(f'{{"image": "a", "id": {value}}}' for value in lines))
    with open_list(path) as images:
        assert images.extra.field("id").type == kind
        assert columns_of(images)["id"].to_pylist() == values


HOUR = datetime.datetime(2026, 11, 23, 4, 5, 6, 789, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, None, 3], pa.uint16()),
        pa.array([0.1, None, 2.5], pa.float32()),
        pa.array([0.5, None, 2.5], pa.float16()),
        pa.array([True, None, False]),
        pa.array(["a", None, "\u00e9"], pa.large_string()),
        pa.array([b"\xff", None, b""]),
        pa.array([decimal.Decimal("1.50"), None, None]),
        pa.array([HOUR, None, HOUR], pa.timestamp("us", "Europe/Berlin")),
        pa.array([1_764_000_000_123_456_789, None, -1], pa.timestamp("ns")),
        pa.array([1, None, -1], pa.duration("ns")),
        pa.array([1, None, 86_399_999_999_999], pa.time64("ns")),
        pa.array([HOUR.time(), None, HOUR.time()], pa.time32("ms")),
        pa.array([HOUR.date(), None, HOUR.date()], pa.date32()),
        pa.array([[1, 2], None, []], pa.list_(pa.int8())),
        pa.array([{"a": 1, "b": ["x"]}, None, {"a": None, "b": None}]),
    ],
    ids=lambda column: str(column.type),
)
def test_a_parquet_column_keeps_its_type_and_values(write_parquet, column):
    with open_list(write_parquet(image=["a.jpg", "b.jpg", "c.jpg"], x=column)) as images:
        assert images.extra.field("x").type == column.type
        assert columns_of(images)["x"].equals(column)


def test_a_parquet_column_of_labels_becomes_one_of_text(write_parquet):
    labels = pa.array(["a", "b", None, "a"]).dictionary_encode()
    with open_list(write_parquet(image=labels, label=labels)) as images:
        assert images.extra == pa.schema([("label", pa.string())])
        assert list(images) == [
            Entry("a", ("a",)),
            Entry("b", ("b",)),
            Entry("", (None,)),
            Entry("a", ("a",)),
        ]


def test_a_parquet_column_of_a_named_type_passes_through_as_what_it_is_stored_as(write_parquet):
    stored = pa.array([bytes(range(16)), None], pa.binary(16))
    named = pa.ExtensionArray.from_storage(pa.uuid(), stored)
    with open_list(write_parquet(image=["a.jpg", "b.jpg"], x=named)) as images:
        assert images.extra == pa.schema([("x", pa.binary(16))])
        assert columns_of(images)["x"].equals(stored)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.string_view()])
def test_images_of_a_parquet_list_may_be_any_kind_of_text(write_parquet, kind):
    images = pa.array(["s3://b/a.jpg", None, " b.jpg"]).cast(kind)
    with open_list(write_parquet(url=images, id=[1, 2, 3]), keep=[]) as images:
        assert list(images) == [Entry("s3://b/a.jpg"), Entry(""), Entry("b.jpg")]
        assert images.has_relative


def test_a_parquet_list_of_many_row_groups_keeps_its_order(write_parquet):
    names = [f"{i}.jpg" for i in range(20_000)]
    with open_list(write_parquet(image=names, id=range(20_000)), keep=["id", "image"]) as images:
        assert list(images) == [Entry(name, (i, name)) for i, name in enumerate(names)]


def test_a_parquet_column_of_structs_is_not_one_of_names(write_parquet):
    pictures = pa.array([{"link": "x", "path": "a.jpg"}])
    with (
        pytest.raises(ListError, match=r"the column 'image' of .* holds struct.*--column"),
        open_list(write_parquet(image=pictures)),
    ):
        pass


@pytest.mark.parametrize("cut", [0, 3, 500])
def test_what_is_no_parquet_file_is_refused_in_one_line(write_parquet, cut):
    path = write_parquet(image=[f"{i}.jpg" for i in range(1_000)])
    with open(path, "r+b") as file:
        file.truncate(cut)
    with pytest.raises(ListError, match="cannot be read as parquet") as caught, open_list(path):
        pass
    assert "\n" not in str(caught.value)
