"""``vea-split.csv``: written, read again, and checked against what lies there now."""

from __future__ import annotations

import csv
import hashlib
import json
import os

import pytest

from handler.values.emotions import MIKELS, POLARITY
from train.datasets.reading import read_dataset
from train.datasets.split_file import NAME, NEW, write_split
from train.datasets.table import NOT_THERE, NOT_UTF8, DatasetError


@pytest.fixture
def photos(tmp_path, pictures):
    pictures([f"{emotion}/{i}.png" for emotion in ("awe", "sad") for i in range(5)])
    return tmp_path


def test_a_written_split_says_everything_about_each_image(photos):
    dataset = read_dataset(photos, MIKELS)
    target = write_split(dataset, photos)
    assert target == photos / NAME
    with target.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10
    for row in rows:
        content = (photos / row["path"]).read_bytes()
        assert row["sha256"] == hashlib.sha256(content).hexdigest()
        assert row["label"] == MIKELS.labels[MIKELS.index(row["path"].split("/")[0])]


def test_a_later_run_uses_it_whatever_its_seed(photos):
    first = read_dataset(photos, MIKELS, seed=1)
    write_split(first, photos)
    again = read_dataset(photos, MIKELS, seed=2)
    assert again.split_source == "file"
    assert again.table.sort_values("path", ignore_index=True).equals(
        first.table.sort_values("path", ignore_index=True)
    )


def test_it_goes_before_the_split_of_the_folders(tmp_path, pictures, splits):
    pictures(["train/awe/1.jpg", "train/awe/2.jpg", "val/awe/3.jpg"])
    (tmp_path / NAME).write_text(
        "path,label,split,sha256\n"
        "train/awe/1.jpg,awe,test,\ntrain/awe/2.jpg,awe,val,\nval/awe/3.jpg,awe,train,\n"
    )
    assert splits(read_dataset(tmp_path, MIKELS)) == {
        "train/awe/1.jpg": "test",
        "train/awe/2.jpg": "val",
        "val/awe/3.jpg": "train",
    }


def test_files_that_went_and_files_that_came_are_counted(photos, picture):
    write_split(read_dataset(photos, MIKELS), photos)
    (photos / "awe" / "0.png").unlink()
    picture("sad/new.png")
    dataset = read_dataset(photos, MIKELS)
    assert len(dataset.table) == 9
    assert dataset.refused == {NOT_THERE: ["awe/0.png"], NEW: ["sad/new.png"]}


def test_a_name_that_no_split_file_can_hold_is_no_new_photo(photos):
    (photos / "awe" / os.fsdecode(b"bad\xff.png")).write_bytes(b"no picture")
    write_split(read_dataset(photos, MIKELS), photos)
    assert read_dataset(photos, MIKELS).refused == {NOT_UTF8: [r"awe/bad\xff.png"]}


def test_placeholders_are_not_taken_for_new_photos(photos, picture):
    for i in range(5):
        (photos / "awe" / f"gone{i}.png").write_bytes(b"no longer available")
    write_split(read_dataset(photos, MIKELS), photos)
    dataset = read_dataset(photos, MIKELS)
    assert dataset.placeholders == 5
    assert NEW not in dataset.refused
    assert len(dataset.table) == 10


def test_changed_files_are_said_and_used_as_they_are(photos, picture):
    write_split(read_dataset(photos, MIKELS), photos)
    changed = picture("awe/0.png")
    dataset = read_dataset(photos, MIKELS)
    assert any(note.startswith("1 images have other bytes") for note in dataset.notes)
    digests = dataset.table.set_index("path")["sha256"]
    assert digests[str(changed)] == hashlib.sha256(changed.read_bytes()).hexdigest()


def test_written_on_one_wheel_it_serves_the_other(photos, splits):
    polarity = read_dataset(photos, POLARITY)
    write_split(polarity, photos)
    emotions = read_dataset(photos, MIKELS)
    assert splits(emotions) == splits(polarity)
    assert set(emotions.table["label"]) == {MIKELS.index("awe"), MIKELS.index("sadness")}


def test_distributions_are_still_known(tmp_path, pictures, text):
    pictures([f"images/{i}.jpg" for i in range(3)])
    text("ground_truth.txt", "".join(f"{i}.jpg 3 1 0 0 0 0 0 0\n" for i in range(3)))
    write_split(read_dataset(tmp_path, MIKELS), tmp_path)
    dataset = read_dataset(tmp_path, MIKELS)
    assert dataset.split_source == "file"
    assert dataset.table["distribution"].tolist() == [(0.75, 0.25, 0, 0, 0, 0, 0, 0)] * 3


def test_it_is_a_layout_of_its_own(tmp_path, pictures, text, labels):
    pictures(["a/b/one.png", "two.png"])
    text(NAME, "path,label,split\na/b/one.png,Sad,training\ntwo.png,awe,val\n")
    dataset = read_dataset(tmp_path, MIKELS)
    assert labels(dataset) == {"a/b/one.png": "sadness", "two.png": "awe"}
    assert dataset.layout == f"{NAME} alone"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("name,emotion\n1.jpg,awe\n", "is not a split file"),
        ("path,label,split\n1.jpg,awe,holdout\n", "line 2: unknown split 'holdout'"),
        ("path,label,split\n1.jpg,love,train\n", "line 2: 'love' is not an emotion"),
        ("", "cannot read"),
    ],
)
def test_a_damaged_split_file_is_refused_with_its_place(photos, text, content, said):
    text(NAME, content)
    with pytest.raises(DatasetError, match=said) as caught:
        read_dataset(photos, MIKELS)
    assert "\n" not in str(caught.value)


def test_where_it_cannot_be_written_is_said(photos):
    dataset = read_dataset(photos, MIKELS)
    with pytest.raises(DatasetError, match="cannot write the split"):
        write_split(dataset, photos / "absent" / "split.csv")


def test_copies_do_not_cross_a_random_split(tmp_path, pictures):
    for path in pictures([f"awe/{i}.png" for i in range(10)]):
        (path.parent / f"copy-{path.name}").write_bytes(path.read_bytes())
    table = read_dataset(tmp_path, MIKELS).table
    assert set(table["split"]) == {"train", "val", "test"}
    assert (table.groupby("sha256")["split"].nunique() == 1).all()


def test_json_lists_beside_it_are_not_needed(tmp_path, pictures, text):
    pictures(["image/awe/1.jpg"])
    text("train.json", json.dumps([["awe", "image/awe/1.jpg", "x"]]))
    text(NAME, "path,label,split\nimage/awe/1.jpg,awe,test\n")
    assert read_dataset(tmp_path, MIKELS).table["split"].tolist() == ["test"]


def test_another_split_is_replaced_on_demand_only(photos):
    target = write_split(read_dataset(photos, MIKELS), photos)
    first = target.read_text()
    assert write_split(read_dataset(photos, MIKELS), photos) == target, "the same split"
    target.unlink()
    other = read_dataset(photos, MIKELS, seed=99)
    target.write_text(first)
    with pytest.raises(DatasetError, match="has other content: replace it with --force"):
        write_split(other, photos)
    assert target.read_text() == first
    write_split(other, photos, force=True)
    assert target.read_text() != first
