"""Numbers as classes: read where their meaning is stated, refused where it would be a guess."""

from __future__ import annotations

import json

import pytest

from handler.values.emotions import EKMAN, MIKELS, POLARITY
from train.datasets.reading import read_dataset
from train.datasets.split_file import write_split
from train.datasets.table import DatasetError

EMOSET = ["amusement", "awe", "contentment", "excitement", "anger", "disgust", "fear", "sadness"]
BY_NUMBER = {str(number): name for number, name in enumerate(EMOSET)}


@pytest.fixture
def numbered(tmp_path, pictures, text):
    """A list with a number for each image: ``numbered(first=1)`` counts from 1."""

    def write(*, first=0, count=8, form="{}"):
        pictures([f"images/p{i}.png" for i in range(count)])
        lines = [f"p{i}.png,{form.format(i + first)}" for i in range(count)]
        text("labels.csv", "\n".join(["image,label", *lines]))
        return tmp_path

    return write


@pytest.mark.parametrize("wheel", [None, MIKELS, EKMAN, POLARITY])
@pytest.mark.parametrize(("first", "count"), [(0, 8), (1, 8), (0, 2), (0, 3), (-1, 3)])
def test_numbers_that_nothing_explains_are_refused_with_the_ways_to_state_them(
    numbered, wheel, first, count
):
    root = numbered(first=first, count=count)
    with pytest.raises(DatasetError, match="nothing says which emotions") as caught:
        read_dataset(root, wheel)
    said = str(caught.value)
    assert "--labels FILE" in said
    assert "info.json" in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("classes.txt", "\n".join(f"{n} {name}" for n, name in BY_NUMBER.items())),
        ("classes.txt", "\n".join(f"{name}: {n}" for n, name in BY_NUMBER.items())),
        ("classes.txt", "\n".join(EMOSET)),
        ("classes.csv", "\n".join(["number,name", *(f"{n},{e}" for n, e in BY_NUMBER.items())])),
        ("classes.json", json.dumps(EMOSET)),
        ("classes.json", json.dumps(BY_NUMBER)),
        ("classes.json", json.dumps({"class_to_idx": {e: i for i, e in enumerate(EMOSET)}})),
        ("classes.json", json.dumps({"features": {"label": {"names": EMOSET}}})),
        ("classes.json", json.dumps({"id2label": BY_NUMBER})),
    ],
)
def test_a_file_states_what_numbers_mean(numbered, text, labels, name, content):
    root = numbered()
    dataset = read_dataset(root, MIKELS, labels=text(f"elsewhere/{name}", content))
    assert labels(dataset) == {f"images/p{i}.png": name for i, name in enumerate(EMOSET)}
    assert any("0 amusement, 1 awe, 2 contentment" in note for note in dataset.notes)


def test_the_info_of_emoset_states_what_numbers_mean(numbered, text, labels):
    by_name = {name: number for number, name in enumerate(EMOSET)}
    info = {"emotion": {"label2idx": by_name}, "scene": {"label2idx": {"beach": 0, "pool": 1}}}
    text("info.json", json.dumps(info))
    dataset = read_dataset(numbered(), None)
    assert labels(dataset)["images/p4.png"] == "anger"


def test_an_info_of_other_things_states_nothing(numbered, text):
    text("info.json", json.dumps({"label2idx": {"beach": 0, "pool": 1}, "version": 3}))
    with pytest.raises(DatasetError, match="nothing says"):
        read_dataset(numbered(), None)


def test_numbers_that_the_coding_does_not_have_refuse_the_data_set(numbered, text):
    file = text("elsewhere/classes.txt", "\n".join(EMOSET))
    with pytest.raises(DatasetError, match=r"the class 8 \(p7\.png\), and classes\.txt knows 0 am"):
        read_dataset(numbered(first=1), MIKELS, labels=file)


def test_another_wheel_drops_no_numbers(numbered, text):
    file = text("elsewhere/classes.txt", "\n".join(EMOSET))
    with pytest.raises(DatasetError, match="labelled with mikels-8"):
        read_dataset(numbered(), EKMAN, labels=file)
    polarities = read_dataset(numbered(), POLARITY, labels=file).table
    assert len(polarities) == 8
    assert polarities["label"].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_numbers_as_tables_with_gaps_write_them_are_numbers(numbered, text, labels):
    file = text("elsewhere/classes.txt", "\n".join(EMOSET))
    dataset = read_dataset(numbered(form="{}.0"), MIKELS, labels=file)
    assert labels(dataset)["images/p7.png"] == "sadness"


def test_a_split_file_states_names_for_good(numbered, text, labels):
    root = numbered()
    dataset = read_dataset(root, MIKELS, labels=text("elsewhere/classes.txt", "\n".join(EMOSET)))
    write_split(dataset, root)
    again = read_dataset(root, MIKELS)
    assert labels(again) == labels(dataset)
    assert any("only vea-split.csv is read" in note for note in again.notes)


def test_of_two_columns_of_classes_the_one_with_names_is_read(tmp_path, pictures, text, labels):
    pictures(["images/a.png", "images/b.png"])
    text("labels.csv", "image,label,emotion\na.png,0,anger\nb.png,1,awe\n")
    dataset = read_dataset(tmp_path, MIKELS)
    assert labels(dataset) == {"images/a.png": "anger", "images/b.png": "awe"}
    assert "labels.csv: columns that are not read: label" in dataset.notes


def test_a_class_of_another_name_is_not_replaced_by_a_folder(tmp_path, pictures, text, labels):
    pictures(["images/awe/a.png", "images/awe/b.png", "images/awe/c.png"])
    text("labels.csv", "image,label\nawe/a.png,love\nawe/b.png,neutral\nawe/c.png,fear\n")
    dataset = read_dataset(tmp_path, MIKELS)
    assert labels(dataset) == {"images/awe/c.png": "fear"}
    assert "classes that are no emotions of mikels-8: love (1)" in dataset.notes


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("0 awe\n0 fear\n", "gives the number 0 to awe and to fear"),
        ("", "does not say what the numbers"),
        ("0 awe\nnothing\n", "has the line 'nothing'"),
        (None, "there is no file"),
    ],
)
def test_a_file_that_states_nothing_is_refused_in_one_line(numbered, tmp_path, text, content, said):
    file = tmp_path / "elsewhere" / "classes.txt"
    if content is not None:
        text("elsewhere/classes.txt", content)
    with pytest.raises(DatasetError, match=said) as caught:
        read_dataset(numbered(), MIKELS, labels=file)
    assert "\n" not in str(caught.value)
