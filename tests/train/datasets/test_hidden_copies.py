"""Copies of photos that programs keep beside them are no photos of a data set."""

from __future__ import annotations

from pathlib import Path

import pytest

from handler.values.emotions import MIKELS
from train.datasets.reading import read_dataset

HIDDEN, COPIES = "in a hidden folder", "in a folder of thumbnails or of deleted files"


def names(dataset):
    return {Path(path).relative_to(dataset.root).as_posix() for path in dataset.table["path"]}


@pytest.mark.parametrize("place", ["{}", "train/{}", "images/{}"])
@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        (".ipynb_checkpoints", HIDDEN),
        (".thumbnails", HIDDEN),
        (".thumbnails/normal", HIDDEN),
        (".Trash-1000/files", HIDDEN),
        (".@__thumb", HIDDEN),
        ("@eaDir/1.png", HIDDEN),
        ("__MACOSX/awe", HIDDEN),
        ("inner/.picasaoriginals", HIDDEN),
        ("thumbnails", COPIES),
        ("Thumbs", COPIES),
        ("#recycle", COPIES),
        ("$RECYCLE.BIN/S-1-5", COPIES),
    ],
)
def test_folders_of_copies_are_left_out_and_counted(tmp_path, pictures, place, folder, reason):
    emotions = [place.format(name) for name in ("awe", "fear")]
    photos = [f"{emotion}/{i}.png" for emotion in emotions for i in range(3)]
    copies = [f"{emotion}/{folder}/{i}-copy.png" for emotion in emotions for i in range(3)]
    pictures(photos + copies)
    dataset = read_dataset(tmp_path, MIKELS)
    assert names(dataset) == set(photos)
    assert dataset.refused == {reason: copies}


def test_a_hidden_file_is_left_out(tmp_path, pictures):
    pictures(["awe/1.png", "awe/.2.png", "fear/1.png"])
    dataset = read_dataset(tmp_path, MIKELS)
    assert names(dataset) == {"awe/1.png", "fear/1.png"}
    assert dataset.refused == {"hidden file": ["awe/.2.png"]}


def test_a_data_set_in_a_hidden_folder_is_read(tmp_path, pictures):
    pictures([".cache/photos/awe/1.png", ".cache/photos/fear/1.png"])
    assert len(read_dataset(tmp_path / ".cache" / "photos", MIKELS).table) == 2


def test_hidden_photos_beside_those_with_emotions_in_their_names_are_left_out(tmp_path, pictures):
    pictures(["awe_1.png", "fear_1.png", ".awe_2.png"])
    assert names(read_dataset(tmp_path, MIKELS)) == {"awe_1.png", "fear_1.png"}


def test_copies_are_not_taken_for_training_photos_of_fi(tmp_path, pictures, text):
    pictures([f"Images/awe_{i}.jpg" for i in range(4)] + ["Images/.thumbnails/awe_9.jpg"])
    text("TestImages.txt", "awe/awe_0.jpg\n")
    assert "Images/.thumbnails/awe_9.jpg" not in names(read_dataset(tmp_path, MIKELS))


def test_photos_that_a_list_names_are_read_wherever_they_are(tmp_path, pictures, text):
    pictures(["images/.hidden/a.png", "images/b.png"])
    text("labels.csv", "path,label\n.hidden/a.png,awe\nb.png,fear\n")
    assert len(read_dataset(tmp_path, MIKELS).table) == 2


@pytest.mark.parametrize("emotion", ["awe/{}", "{}"])
def test_links_that_lead_to_no_photo_are_counted(tmp_path, pictures, emotion):
    photos = [emotion.format(name) for name in ("awe_1.png", "awe_2.png", "awe_3.png", "awe_4.png")]
    pictures(photos)
    nowhere, elsewhere, good = (emotion.format(n) for n in ("awe_7.png", "more", "awe_9.png"))
    pictures(["elsewhere/a/1.png"])
    (tmp_path / nowhere).symlink_to(tmp_path / "gone.png")
    (tmp_path / elsewhere).symlink_to(tmp_path / "elsewhere")
    (tmp_path / good).symlink_to(tmp_path / photos[0])
    dataset = read_dataset(tmp_path, MIKELS)
    assert names(dataset) == {*photos, good}
    refused = {name: reason for reason, found in dataset.refused.items() for name in found}
    assert refused[nowhere] == "a link to a file that is not there"
    assert refused[elsewhere] == "a link to a folder, which is not followed"
