"""Accuracy by group: whom a table names, what is counted, and what is refused."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from handler.values.emotions import MIKELS
from handler.values.errors import VeaError
from train.evaluation.groups import NO_GROUP, read_groups, scores_by_group


def predictions(*rows):
    """(image, label, predicted, p_positive, refused) of each image."""
    columns = ["image", "label", "predicted", "p_positive", "refused"]
    return pd.DataFrame(rows, columns=columns)


def test_each_group_has_its_own_accuracy_and_its_distance_from_the_others():
    table = predictions(
        *((f"a/{i}.jpg", "awe", "awe" if i < 30 else "fear", 0.9, "") for i in range(40)),
        *((f"b/{i}.jpg", "fear", "fear" if i < 20 else "awe", 0.8, "") for i in range(40)),
        ("a/40.jpg", "awe", "", math.nan, "damaged"),
        ("c/0.jpg", "awe", "awe", 0.9, ""),
    )
    groups = {f"{name}/{i}.jpg": name for name in "ab" for i in range(41)}
    found = scores_by_group(table, MIKELS, groups)
    assert list(found) == ["a", "b", NO_GROUP]
    assert (found["a"].images, found["a"].accuracy, found["a"].polarity_accuracy) == (40, 0.75, 1)
    assert (found["b"].images, found["b"].accuracy, found["b"].polarity_accuracy) == (40, 0.5, 0)
    assert found["a"].difference == pytest.approx(0.75 - 21 / 41)
    low, high = found["a"].difference_interval
    assert low < found["a"].difference < high
    assert 0.03 < high - low < 0.5
    low, high = found["a"].accuracy_interval
    assert (round(low, 3), round(high, 3)) == (0.598, 0.858)  # Wilson 1927, 30 of 40
    assert not found["a"].few
    assert found[NO_GROUP].few
    assert found["a"].to_dict()["difference_from_others"] == pytest.approx(0.237805)


def test_one_group_alone_has_nobody_to_differ_from():
    found = scores_by_group(predictions(("1.jpg", "awe", "awe", 0.9, "")), MIKELS, {"1.jpg": "x"})
    assert math.isnan(found["x"].difference)
    assert found["x"].to_dict()["difference_from_others"] is None


def test_groups_of_other_images_are_refused():
    with pytest.raises(VeaError, match=r"no image of this split has a group.*awe/1\.jpg"):
        scores_by_group(predictions(("awe/1.jpg", "awe", "awe", 0.9, "")), MIKELS, {"1.jpg": "x"})


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_groups_are_read_as_text_and_empty_cells_are_no_group(tmp_path, suffix):
    table = pd.DataFrame({"image": ["1.jpg", "2.jpg", "1.jpg"], "age": ["007", None, "007"]})
    file = tmp_path / f"groups{suffix}"
    table.to_csv(file, index=False) if suffix == ".csv" else table.to_parquet(file)
    assert read_groups(file, "age") == {"1.jpg": "007"}


def test_a_table_that_does_not_fit_is_one_line(tmp_path):
    file = tmp_path / "groups.csv"
    file.write_text("image,age\n1.jpg,old\n1.jpg,young\n")
    with pytest.raises(VeaError, match=r"gives 1\.jpg more than one value of 'age'"):
        read_groups(file, "age")
    with pytest.raises(VeaError, match="no column 'region': it has image, age"):
        read_groups(file, "region")
    with pytest.raises(VeaError, match="cannot read groups from"):
        read_groups(tmp_path / "missing.csv", "age")
    with pytest.raises(VeaError, match=r"expected a \.csv or \.parquet file"):
        read_groups(tmp_path / "groups.txt", "age")
