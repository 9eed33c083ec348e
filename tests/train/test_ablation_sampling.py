"""Which photos a study on a part of the training split is trained on."""

from __future__ import annotations

import pandas as pd

from train.ablation.sampling import sample_photos

TABLE = pd.DataFrame({"sha256": [f"{number:04}" for number in range(1000)]})


def test_a_sample_is_drawn_from_the_whole_table_and_keeps_its_order() -> None:
    rows = sample_photos(TABLE, 200).index
    assert len(set(rows)) == 200
    assert rows.is_monotonic_increasing
    # Of 200 rows at random, about 50 are in each quarter (standard deviation 5.5).
    for quarter in range(4):
        assert 25 < sum(250 * quarter <= row < 250 * (quarter + 1) for row in rows) < 75


def test_a_larger_sample_holds_the_smaller_one_and_is_the_same_every_time() -> None:
    few, more = sample_photos(TABLE, 100), sample_photos(TABLE, 300)
    assert set(few.index) < set(more.index)
    assert few.equals(sample_photos(TABLE.copy(), 100))


def test_nothing_is_left_out_where_all_are_asked_for() -> None:
    assert sample_photos(TABLE, 0).equals(TABLE)
    assert sample_photos(TABLE, 5000).equals(TABLE)
