"""Splits that lists and folders give: obeyed, or refused, and told where they are not used."""

from __future__ import annotations

import pytest

from handler.values.emotions import MIKELS
from train.datasets.reading import read_dataset
from train.datasets.table import DatasetError

EMOTIONS = ("awe", "fear", "sadness")


def table(pictures, text, header, rows, name="labels.csv"):
    pictures([f"images/{row.split(',')[0]}" for row in rows])
    text(name, "\n".join([header, *rows]) + "\n")


@pytest.mark.parametrize("column", ["split", "Split", "subset", "set", "partition", "usage"])
def test_a_column_of_splits_is_obeyed(tmp_path, pictures, text, splits, column):
    given = {f"{e}{i}.png": ("train", "Validation", "TEST")[i] for e in EMOTIONS for i in range(3)}
    rows = [f"{name},{name[:-5]},{split}" for name, split in given.items()]
    table(pictures, text, f"path,label,{column}", rows)
    dataset = read_dataset(tmp_path, MIKELS)
    meant = {"train": "train", "Validation": "val", "TEST": "test"}
    assert splits(dataset) == {f"images/{name}": meant[s] for name, s in given.items()}
    assert dataset.split_source == "given"


def test_validation_is_set_aside_from_training_alone(tmp_path, pictures, text, splits):
    rows = [f"{e}{i}.png,{e},{'test' if i > 5 else 'train'}" for e in EMOTIONS for i in range(10)]
    table(pictures, text, "path,label,split", rows)
    found = splits(read_dataset(tmp_path, MIKELS))
    assert {name for name, split in found.items() if split == "test"} == {
        f"images/{e}{i}.png" for e in EMOTIONS for i in range(6, 10)
    }
    assert set(found.values()) == {"train", "val", "test"}


def test_a_column_that_is_no_split_refuses_the_data_set(tmp_path, pictures, text):
    table(pictures, text, "path,label,split", ["a.png,awe,1", "b.png,fear,2"])
    with pytest.raises(DatasetError, match="has '1' in its column split: expected train, val"):
        read_dataset(tmp_path, MIKELS)


def test_an_image_without_a_split_among_others_is_left_out(tmp_path, pictures, text, splits):
    rows = ["a.png,awe,train", "b.png,awe,train", "c.png,fear,test", "d.png,fear,"]
    table(pictures, text, "path,label,split", rows)
    dataset = read_dataset(tmp_path, MIKELS)
    assert "images/d.png" not in splits(dataset)
    assert dataset.refused == {"no split is given for it, as there is for others": ["images/d.png"]}


def test_a_list_whose_name_contradicts_its_column_is_refused(tmp_path, pictures, text):
    table(pictures, text, "path,label,split", ["a.png,awe,test"], name="train.csv")
    with pytest.raises(
        DatasetError, match=r"a\.png in the split test, and its own name says train"
    ):
        read_dataset(tmp_path, MIKELS)


def test_lists_that_give_an_image_to_two_splits_are_told(tmp_path, pictures, text, splits):
    table(pictures, text, "path,label", ["a.png,awe", "b.png,awe"], name="train.csv")
    table(pictures, text, "path,label", ["b.png,awe", "c.png,awe"], name="test.csv")
    dataset = read_dataset(tmp_path, MIKELS)
    assert splits(dataset)["images/b.png"] == "test"
    assert dataset.refused == {
        "in another list with another class or split (the first list counts)": ["b.png"]
    }


def test_columns_and_lists_that_are_not_read_are_named(tmp_path, pictures, text):
    table(pictures, text, "path,label,fold,is_train", ["a.png,awe,1,0"], name="train.csv")
    table(pictures, text, "path,label", ["a.png,awe", "b.png,awe"], name="all.csv")
    notes = "\n".join(read_dataset(tmp_path, MIKELS).notes)
    assert "train.csv: columns that are not read: fold, is_train" in notes
    assert "lists that are not read beside those above: all.csv" in notes


@pytest.mark.parametrize("form", ["{emotion}/{split}/{i}.png", "images/{emotion}/{split}/{i}.png"])
def test_split_folders_within_emotions_are_obeyed(tmp_path, pictures, splits, form):
    counts = {"train": 6, "test": 2, "valid": 1}
    named = {
        form.format(emotion=e, split=split, i=i): split
        for e in EMOTIONS
        for split, count in counts.items()
        for i in range(count)
    }
    pictures(list(named))
    dataset = read_dataset(tmp_path, MIKELS)
    assert splits(dataset) == {n: "val" if s == "valid" else s for n, s in named.items()}
    assert dataset.split_source == "given"
    assert "the folders of the images name the split: train, val, test" in dataset.notes


def test_split_folders_in_the_paths_of_a_list_are_obeyed(tmp_path, pictures, text, splits):
    rows = ["train/a.png,awe", "train/b.png,fear", "test/c.png,awe", "d.png,fear"]
    table(pictures, text, "path,label", rows)
    dataset = read_dataset(tmp_path, MIKELS)
    assert splits(dataset)["images/test/c.png"] == "test"
    assert dataset.refused == {"no split is given for it, as there is for others": ["images/d.png"]}


def test_a_path_with_two_splits_is_left_out(tmp_path, pictures, splits):
    pictures(["awe/train/1.png", "awe/test/2.png", "awe/train/old/test/3.png"])
    dataset = read_dataset(tmp_path, MIKELS)
    assert set(splits(dataset)) == {"awe/train/1.png", "awe/test/2.png"}
    assert dataset.refused == {"its folders name more than one split": ["awe/train/old/test/3.png"]}


def test_one_folder_called_train_is_no_split_and_is_told(tmp_path, pictures):
    pictures([f"{e}/{place}/{i}.png" for e in EMOTIONS for place in ("train", "bus") for i in "12"])
    dataset = read_dataset(tmp_path, MIKELS)
    assert dataset.split_source == "random"
    assert any("6 images name the split train, and none names another" in n for n in dataset.notes)


def test_a_list_over_split_folders_is_obeyed_and_the_difference_told(
    tmp_path, pictures, text, splits
):
    rows = ["train/a.png,awe,train", "train/b.png,awe,test", "train/c.png,fear,train"]
    table(pictures, text, "path,label,split", rows)
    dataset = read_dataset(tmp_path, MIKELS)
    assert splits(dataset)["images/train/b.png"] == "test"
    assert any("1 images are listed for another split" in note for note in dataset.notes)


def test_splits_in_file_names_are_told(tmp_path, pictures):
    pictures([f"{e}/{s}_{i}.png" for e in EMOTIONS for s in ("train", "test") for i in range(2)])
    dataset = read_dataset(tmp_path, MIKELS)
    assert dataset.split_source == "random"
    assert any("file names that say train (6), test (6) are not used" in n for n in dataset.notes)
