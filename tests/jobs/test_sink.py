import io

import pyarrow.parquet as pq
import pytest

from handler.emotions import EKMAN, MIKELS, POLARITY
from jobs import sink

ORIGIN = {"model_name": "m", "model_version": "1", "model_digest": "d", "run_id": "r"}


@pytest.mark.parametrize("wheel", [MIKELS, EKMAN, POLARITY], ids=lambda wheel: wheel.name)
def test_every_wheel_has_a_column_for_each_emotion_and_none_twice(wheel):
    names = sink.schema(wheel.labels).names
    assert len(names) == len(set(names))
    assert {f"p_{label}" for label in wheel.labels} | {"p_positive"} <= set(names)


def test_floats_are_split_into_byte_streams_and_labels_have_dictionaries():
    row = {"position": 0, "image": "a", "status": "ok", "p_awe": 0.5, "emotion": "awe", **ORIGIN}
    data = sink.encode([row], sink.schema(MIKELS.labels))
    group = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert "BYTE_STREAM_SPLIT" in columns["p_awe"].encodings
    assert columns["emotion"].has_dictionary_page
    # Every image is different: a dictionary of them would be the column over again.
    assert not columns["image"].has_dictionary_page


def test_what_is_not_a_part_is_not_counted():
    with pytest.raises(ValueError, match=r"."):
        sink.report_part("part-00000.parquet", b"nothing of the kind")
