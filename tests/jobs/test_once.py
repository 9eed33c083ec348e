"""Each image of a list is scored once, and every row of the list has its row."""

import dataclasses
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from part_rows import COLUMNS, row
from text_model import TextModel

from jobs.lists.distinct import find_distinct
from jobs.lists.image_list import open_list
from jobs.monitoring.counter import TooManyFailed
from jobs.output import parquet
from jobs.output.listed_rows import ListedRows
from jobs.run.driver import score_list
from jobs.storage.key_sort import KeySort, key_of, starts_of_groups
from jobs.values.chunks import Entry
from jobs.values.job import ScoreJob


@pytest.fixture
def photos(tmp_path):
    """Twelve files; the last two have the bytes of the first two."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(12):
        text = f"bad {number}" if number == 5 else f"photo {number % 10}"
        (folder / f"{number}.jpg").write_text(text)
    return folder


def listed(folder, numbers):
    path = folder / "list.csv"
    lines = [f"{number}.jpg,row {place}" for place, number in enumerate(numbers)]
    path.write_text("\n".join(["image,name", *lines]) + "\n")
    return path


NUMBERS = [0, 1, 0, 5, 2, 3, 99, 1, 5, 4, 99, 0, 11, 10, 6, 2]


@pytest.fixture
def job(photos, archive, tmp_path):
    return ScoreJob(
        image_list=str(listed(photos, NUMBERS)),
        out=str(tmp_path / "out"),
        model=archive,
        chunk_size=3,
        once=True,
        content_hash=True,
    )


def rows_of(job):
    return pq.read_table(Path(job.out) / "images-00000.parquet").to_pylist()


def without_run(rows):
    return [{name: value for name, value in row.items() if name != "run_id"} for row in rows]


def test_rows_are_those_of_a_run_that_scores_every_row(job, tmp_path):
    stub = TextModel()
    summary = score_list(job, load=stub.load)
    every = dataclasses.replace(job, once=False, out=str(tmp_path / "every"))
    score_list(every, load=TextModel().load)
    assert without_run(rows_of(job)) == without_run(rows_of(every))
    assert [row["name"] for row in rows_of(job)] == [f"row {i}" for i in range(len(NUMBERS))]
    assert (summary.rows, summary.failed) == (len(NUMBERS), 4)
    # Equal bytes in another chunk are another photo; every listed name is scored once.
    assert Counter(stub.scored) == {f"photo {i}": 1 + (i < 2) for i in (0, 1, 2, 3, 4, 6)}


def test_equal_bytes_under_other_names_are_scored_once_in_a_chunk(job):
    stub = TextModel()
    score_list(dataclasses.replace(job, chunk_size=100), load=stub.load)
    assert Counter(stub.scored) == {f"photo {i}": 1 for i in (0, 1, 2, 3, 4, 6)}
    rows = rows_of(job)
    assert rows[12]["width"] == rows[1]["width"] == 1
    assert rows[12]["content_sha256"] == rows[1]["content_sha256"]


def test_the_same_bytes_come_out_after_an_interruption_and_from_two_shards(job, tmp_path):
    undisturbed = dataclasses.replace(job, out=str(tmp_path / "undisturbed"))
    score_list(undisturbed, load=TextModel().load)

    class Broken(Exception):
        pass

    def break_off(now):
        if now.done >= 4:
            raise Broken

    with pytest.raises(Broken):
        score_list(job, load=TextModel().load, on_progress=break_off)
    for index in (0, 1):
        score_list(dataclasses.replace(job, shard=(index, 2)), load=TextModel().load)
    assert Path(job.out, "images-00000.parquet").read_bytes() == (
        Path(undisturbed.out, "images-00000.parquet").read_bytes()
    )
    assert json.loads(Path(job.out, "_manifest.json").read_text())["distinct"] == {
        "rows": 10,
        "reasons": {"decode/damaged": 1, "fetch/missing": 1},
    }


def test_a_finished_run_is_judged_by_its_distinct_images_each_time(job):
    # Two of ten images fail, which four of sixteen rows name.
    for _ in range(2):
        score_list(dataclasses.replace(job, max_error_rate=0.2), load=TextModel().load)
    with pytest.raises(TooManyFailed):
        score_list(dataclasses.replace(job, max_error_rate=0.19), load=TextModel().load)


def test_an_empty_list_gives_a_file_with_the_columns(job, photos):
    listed(photos, [])
    score_list(job, load=TextModel().load)
    assert rows_of(job) == []


def test_runs_without_the_options_keep_their_identity_and_columns(job, tmp_path):
    plain = dataclasses.replace(job, once=False, content_hash=False)
    score_list(plain, load=TextModel().load)
    identity = json.loads(Path(plain.out, "_run/identity.json").read_text())
    assert not {"once", "content_hash"} & set(identity)
    assert "content_sha256" not in rows_of(plain)[0]
    with pytest.raises(Exception, match="--content-hash, --once differs"):
        score_list(job, load=TextModel().load)


def test_a_list_may_have_a_column_of_that_name_unless_it_is_asked_for(job, photos):
    text = Path(job.image_list).read_text().replace("image,name", "image,content_sha256")
    Path(job.image_list).write_text(text)
    with pytest.raises(parquet.ColumnError, match="content_sha256"):
        score_list(job, load=TextModel().load)
    plain = dataclasses.replace(job, content_hash=False)
    score_list(plain, load=TextModel().load)
    assert rows_of(plain)[3]["content_sha256"] == "row 3"


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(numbers=st.lists(st.integers(0, 40), max_size=120), size=st.integers(1, 9))
def test_distinct_images_are_numbered_as_they_come_and_all_rows_come_back(tmp_path, numbers, size):
    path = listed(tmp_path, numbers)
    order = list(dict.fromkeys(numbers))
    with open_list(str(path)) as images, find_distinct(images) as distinct:
        assert distinct.rows == len(order)
        assert distinct.numbers.tolist() == [order.index(number) for number in numbers]
        assert [entry.image for entry in distinct] == [f"{number}.jpg" for number in order]
        assert distinct.repeated.tolist() == [numbers.count(number) > 1 for number in order]

        def first(number):
            place = numbers.index(order[number])
            return {**row(number), "image": f"{order[number]}.jpg", "sku": f"{place}"}

        parts = [
            parquet.read_part(parquet.encode([first(i) for i in some], COLUMNS))
            for some in (range(len(order))[i : i + size] for i in range(0, len(order), size))
        ]
        expand = ListedRows(
            [Entry(entry.image, (f"{place}",)) for place, entry in enumerate(images)],
            distinct.numbers,
            distinct.repeated,
            pa.schema([("sku", pa.string())]),
        )
        found = [one for table in expand(iter(parts)) for one in table.to_pylist()]
    own = ("position", "image", "sku")
    assert [tuple(one[name] for name in own) for one in found] == [
        (place, f"{number}.jpg", f"{place}") for place, number in enumerate(numbers)
    ]
    known = [one for part in parts for one in part.to_pylist()]
    for one, number in zip(found, numbers, strict=True):
        expected = known[order.index(number)]
        assert {k: v for k, v in one.items() if k not in own} == {
            k: v for k, v in expected.items() if k not in own
        }


@pytest.mark.parametrize("expected", [10, 3_000_000])
def test_keys_come_back_sorted_with_the_smallest_number_first(expected):
    texts = [f"{i * 7 % 50}" for i in range(200)]
    with KeySort(expected) as keys:
        keys.add([key_of(text) for text in texts[:150]], np.arange(150))
        keys.add([key_of(text) for text in texts[150:]], np.arange(150, 200))
        firsts = []
        for records in keys.sorted():
            firsts += records["number"][starts_of_groups(records)].tolist()
    assert sorted(firsts) == sorted({texts.index(text) for text in texts})
