"""Twitter I and II: positive or negative, at three levels of agreement, in every form."""

from __future__ import annotations

import pytest

from handler.values.emotions import MIKELS, POLARITY
from train.datasets.classes import NEUTRAL
from train.datasets.reading import read_dataset
from train.datasets.split_file import write_split
from train.datasets.table import NOT_THERE, DatasetError

FILES = [f"{i}.jpg" for i in range(6)]
AGREEMENT = {"three": FILES, "four": FILES[:4], "five": FILES[:2]}


def test_all_levels_of_agreement_are_read_together(tmp_path, pictures, text, labels):
    pictures([f"Agg_AMT_Candidates/{name}" for name in FILES])
    for level, names in AGREEMENT.items():
        text(f"{level}_agree.txt", "".join(f"{name} {int(name[0]) % 2}\n" for name in names))
    dataset = read_dataset(tmp_path, POLARITY)
    assert dataset.table["agreement"].tolist() == [5, 5, 4, 4, 3, 3]
    assert labels(dataset)["Agg_AMT_Candidates/0.jpg"] == "negative"
    assert labels(dataset)["Agg_AMT_Candidates/1.jpg"] == "positive"


@pytest.mark.parametrize(("level", "count"), [("three", 6), ("four", 4), ("five", 2)])
def test_one_list_can_be_read_alone(tmp_path, pictures, text, level, count):
    pictures([f"Agg_AMT_Candidates/{name}" for name in FILES])
    for name, files in AGREEMENT.items():
        text(f"twitter_{name}_agrees.txt", "".join(f"{file} 1\n" for file in files))
    dataset = read_dataset(tmp_path / f"twitter_{level}_agrees.txt", POLARITY)
    assert len(dataset.table) == count
    assert dataset.root == tmp_path


def test_lists_with_three_classes_lose_the_neutral_ones(tmp_path, pictures, text, labels):
    pictures([f"images/{name}" for name in FILES])
    text("3agree.csv", "path,class\n0.jpg,0\n1.jpg,2\n2.jpg,1\n9.jpg,2\n")
    text("5agree.csv", "path,class\n0.jpg,0\n")
    dataset = read_dataset(tmp_path, POLARITY)
    assert labels(dataset) == {"images/0.jpg": "negative", "images/1.jpg": "positive"}
    assert dataset.table["agreement"].tolist() == [5, 3]
    assert dataset.refused == {NEUTRAL: ["2.jpg"], NOT_THERE: ["9.jpg"]}


def test_the_votes_themselves_are_a_distribution(tmp_path, pictures, text, labels):
    pictures([f"Agg_AMT_Candidates/{name}" for name in FILES])
    text(
        "amt_result.csv",
        "image,votes,positive,negative\n0.jpg,5,4,1\n1.jpg,5,0,5\n2.jpg,4,2,2\n",
    )
    dataset = read_dataset(tmp_path, POLARITY)
    assert labels(dataset) == {
        "Agg_AMT_Candidates/0.jpg": "positive",
        "Agg_AMT_Candidates/1.jpg": "negative",
    }
    assert dataset.table["distribution"].tolist() == [(0.8, 0.2), (0.0, 1.0)]
    assert dataset.refused == {"no three people agree": ["amt_result.csv, line 4"]}


def test_votes_that_do_not_say_what_they_count_are_refused(tmp_path, text):
    text("amt_result.csv", "image,votes,a,b\n0.jpg,5,4,1\n")
    with pytest.raises(DatasetError, match="does not say which column"):
        read_dataset(tmp_path, POLARITY)


def test_a_line_without_0_or_1_is_refused_with_its_place(tmp_path, text):
    text("three_agree.txt", "0.jpg 1\n1.jpg maybe\n")
    with pytest.raises(DatasetError, match=r"three_agree\.txt, line 2: expected a file name and 0"):
        read_dataset(tmp_path, POLARITY)


def test_of_five_folds_the_first_is_read_and_any_can_be_named(tmp_path, pictures, splits):
    for fold in range(1, 6):
        pictures([f"total/{fold}/train/positive/{i}.jpg" for i in range(fold + 1)])
        pictures([f"total/{fold}/test/negative/{i}.jpg" for i in range(2)])
    dataset = read_dataset(tmp_path, POLARITY)
    assert sorted(splits(dataset).values()) == ["test", "test", "train", "val"]
    assert any("five folds: total/1 is read" in note for note in dataset.notes)
    third = read_dataset(tmp_path / "total" / "3", POLARITY)
    assert len(third.table) == 4 + 2


@pytest.mark.parametrize("place", ["total/1", "1"])
def test_a_split_of_the_first_of_five_folds_is_read_again(tmp_path, pictures, text, splits, place):
    pictures([f"{place}/train/{name}/{i}.jpg" for name in ("positive", "negative") for i in (1, 2)])
    pictures([f"{place}/test/negative/3.jpg"])
    text(f"{place}/train/readme.txt", "x")
    first = read_dataset(tmp_path, POLARITY)
    write_split(first, tmp_path)
    again = read_dataset(tmp_path, POLARITY)
    assert again.split_source == "file"
    assert splits(again) == splits(first)
    assert f"{place}/test/negative/3.jpg" in splits(again)
    assert (
        again.refused == first.refused == {"no emotion-named folder": [f"{place}/train/readme.txt"]}
    )


def test_twitter_two_as_a_list_is_split_at_random_for_all_its_name(
    tmp_path, pictures, text, labels
):
    pictures([f"images/{name}" for name in FILES])
    text("twitter_testing_2.csv", "path,class\n" + "".join(f"{n},{int(n[0]) % 2}\n" for n in FILES))
    dataset = read_dataset(tmp_path, POLARITY)
    assert labels(dataset)["images/1.jpg"] == "positive"
    assert dataset.split_source == "random"
    assert set(dataset.table["split"]) == {"train", "val", "test"}


@pytest.mark.parametrize("places", ["{}", "train/{}"])
def test_neg_and_pos_folders(tmp_path, pictures, labels, places):
    pictures([f"{places.format(name)}/{i}.jpg" for name in ("neg", "pos") for i in range(3)])
    found = labels(read_dataset(tmp_path, POLARITY))
    assert found[f"{places.format('neg')}/0.jpg"] == "negative"
    assert found[f"{places.format('pos')}/2.jpg"] == "positive"


def test_polarity_cannot_be_read_as_emotions(tmp_path, pictures):
    pictures(["neg/1.jpg", "pos/1.jpg"])
    with pytest.raises(DatasetError, match="labelled with polarity-2") as caught:
        read_dataset(tmp_path, MIKELS)
    assert "\n" not in str(caught.value)
