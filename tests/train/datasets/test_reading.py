"""`read_dataset`: which layout it is, on which wheel, and what is said when it is none."""

from __future__ import annotations

import os

import pytest

from handler.values.emotions import EKMAN, MIKELS, POLARITY
from train.datasets.reading import read_dataset
from train.datasets.table import NOT_THERE, NOT_UTF8, DatasetError


def refusal(root, wheel=MIKELS):
    with pytest.raises(DatasetError) as caught:
        read_dataset(root, wheel)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_eight_emotions_can_be_read_as_polarity(tmp_path, pictures, labels):
    pictures([f"{emotion}/1.jpg" for emotion in MIKELS.labels])
    found = labels(read_dataset(tmp_path, POLARITY))
    assert found == {
        f"{emotion}/1.jpg": MIKELS.polarity(i) for i, emotion in enumerate(MIKELS.labels)
    }


def test_distributions_are_summed_on_the_polarity_wheel(tmp_path, pictures, text):
    pictures(["images/1.jpg"])
    text("ground_truth.txt", "1.jpg 3 1 0 0 2 2 0 0\n")
    table = read_dataset(tmp_path, POLARITY).table
    assert table["distribution"].tolist() == [(0.5, 0.5)]
    assert table["label"].tolist() == [POLARITY.index("positive")]


def test_the_split_does_not_depend_on_the_wheel(tmp_path, pictures):
    pictures([f"{emotion}/{i}.jpg" for emotion in MIKELS.labels for i in range(6)])
    emotions, polarity = read_dataset(tmp_path, MIKELS), read_dataset(tmp_path, POLARITY)
    assert emotions.table["split"].equals(polarity.table["split"])


def test_emotions_of_another_wheel_are_refused_in_one_line(tmp_path, pictures):
    pictures([f"{emotion}/1.jpg" for emotion in MIKELS.labels])
    said = refusal(tmp_path, EKMAN)
    assert "labelled with mikels-8" in said
    assert "cannot be read on ekman-6" in said


def test_without_a_wheel_it_is_the_data_sets_own(tmp_path, pictures):
    pictures([f"train/{emotion}/1.jpg" for emotion in EKMAN.labels])
    dataset = read_dataset(tmp_path, None)
    assert dataset.wheel == dataset.own_wheel == EKMAN


def test_nothing_known_says_what_was_looked_for(tmp_path, text):
    text("notes.txt", "x")
    said = refusal(tmp_path)
    for layout in ("EmoSet", "EmotionROI", "Emotion6", "ArtPhoto", "Abstract", "IAPSa", "Twitter"):
        assert layout in said
    assert "emotion-named folders" in said


def test_one_folder_too_high_is_told(tmp_path, pictures):
    pictures([f"FI/train/{emotion}/1.jpg" for emotion in MIKELS.labels])
    assert str(tmp_path / "FI") in refusal(tmp_path)


def test_a_missing_folder_and_a_file_are_refused(tmp_path, picture):
    assert "nowhere is not a folder" in refusal(tmp_path / "nowhere")
    assert "1.jpg is not a folder" in refusal(picture("1.jpg"))


def test_faces_are_no_evoked_emotions(tmp_path, picture):
    for name in ("angry", "happy", "neutral"):
        picture(f"train/{name}/1.png", size=(48, 48))
    assert "FER2013" in refusal(tmp_path, EKMAN)


def test_photos_under_the_same_names_are(tmp_path, pictures):
    pictures([f"train/{name}/1.png" for name in ("angry", "happy", "neutral")])
    assert len(read_dataset(tmp_path, EKMAN).table) == 2


def test_a_list_without_its_images_gives_way_to_folders(tmp_path, pictures, text):
    pictures(["awe/1.jpg", "fear/1.jpg"])
    text("somewhere_else.csv", "path,label\n/old/place/1.jpg,awe\n../2.jpg,fear\n")
    assert len(read_dataset(tmp_path, MIKELS).table) == 2


def test_a_list_cannot_lead_out_of_the_folder(tmp_path, picture, text):
    picture("outside.jpg")
    picture("set/images/inside.jpg")
    text(
        "set/list.csv",
        f"path,label\n../outside.jpg,awe\n{tmp_path}/outside.jpg,awe\ninside.jpg,awe",
    )
    dataset = read_dataset(tmp_path / "set", MIKELS)
    assert len(dataset.table) == 1
    assert dataset.ignored == 2


def test_strange_files_beside_the_folders_do_no_harm(tmp_path, pictures, text):
    pictures(["awe/1.jpg", "fear/1.jpg"])
    text("broken.json", "{")
    (tmp_path / "ground_truth.txt").write_bytes(b"\xff\xfe\x00 no text")
    (tmp_path / "table.csv").write_bytes(b"\xff\xfe\x00 no text")
    assert len(read_dataset(tmp_path, MIKELS).table) == 2


def test_an_image_listed_twice_counts_once(tmp_path, pictures, text):
    pictures(["images/1.jpg"])
    text("list.csv", "path,label\n1.jpg,awe\n1.jpg,fear\n")
    dataset = read_dataset(tmp_path, MIKELS)
    assert len(dataset.table) == 1
    assert dataset.refused == {"listed twice (the first line counts)": ["images/1.jpg"]}


def test_a_file_whose_name_is_not_utf_8_is_left_out_alone(tmp_path, pictures, labels):
    pictures(["awe/1.jpg", "awe/2.jpg"])
    name_in_bytes(tmp_path / "awe", b"bad\xff.jpg")
    name_in_bytes(tmp_path / "awe", b"notes\xff.txt")
    dataset = read_dataset(tmp_path, MIKELS)
    assert set(labels(dataset)) == {"awe/1.jpg", "awe/2.jpg"}
    assert dataset.refused == {
        NOT_UTF8: [r"awe/bad\xff.jpg"],
        "no image file": [r"awe/notes\xff.txt"],
    }


def test_a_listed_file_whose_name_is_no_text_is_told_in_text(tmp_path, pictures, text):
    pictures(["image/1.jpg"])
    text("train.json", r'[["awe", "image/1.jpg", "x"], ["awe", "image/\ud800.jpg", "x"]]')
    dataset = read_dataset(tmp_path, MIKELS)
    assert dataset.refused == {NOT_THERE: [r"image/\ud800.jpg"]}


def test_a_list_whose_own_name_is_not_utf_8_is_read(tmp_path, pictures):
    pictures(["images/1.jpg"])
    name_in_bytes(tmp_path, b"list\xff.csv", b"path,label\n1.jpg,awe\n")
    dataset = read_dataset(tmp_path, MIKELS)
    assert len(dataset.table) == 1
    assert r"list\xff.csv" in dataset.layout


def name_in_bytes(folder, name, content=b"no picture"):
    (folder / os.fsdecode(name)).write_bytes(content)


def test_progress_ends_at_the_number_of_files(tmp_path, pictures):
    pictures([f"awe/{i}.jpg" for i in range(3)])
    seen = []
    read_dataset(tmp_path, MIKELS, on_progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (3, 3)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("truth.csv", "img_id;emotion_no\n1;2\n", "it has the columns img_id, emotion_no"),
        ("truth.tsv", "picture\tfeeling\n", "it has the columns picture, feeling"),
        ("truth.csv", "who,what\n", "one of path, image, file, filename, ... for the image"),
        ("truth.txt", "1.jpg happy\n", "it names images"),
        ("truth.jsonl", '{"image": "1.jpg"}\n', "it names images"),
        ("truth.xlsx", "PK", "lists are .csv files, not .xlsx"),
    ],
)
def test_a_list_that_is_not_understood_is_named_with_its_columns(
    tmp_path, pictures, text, name, content, said
):
    text(name, content)
    with pytest.raises(DatasetError, match="truth") as caught:
        read_dataset(tmp_path, MIKELS)
    assert said in str(caught.value)
    pictures(["awe/1.png", "fear/1.png"])
    (note,) = [n for n in read_dataset(tmp_path, MIKELS).notes if "is not read" in n]
    assert note.startswith(f"{name} is not read: ")
    assert said in note


def test_files_that_are_no_lists_are_not_taken_for_lists(tmp_path, pictures, text):
    pictures(["awe/1.png", "fear/1.png"])
    text("README.txt", "photos of my holidays")
    text("LICENSE", "free")
    text("settings.json", "{}")
    text("info.json", '{"made": "in 2020"}')
    assert read_dataset(tmp_path, MIKELS).notes == ()


def test_polarity_is_advised_once(tmp_path, pictures):
    pictures(["pos/1.png", "neg/1.png"])
    with pytest.raises(DatasetError, match=r"use a recipe with the wheel polarity-2$"):
        read_dataset(tmp_path, MIKELS)
