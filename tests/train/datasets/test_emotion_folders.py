"""Folders named after emotions: splits, spellings, placeholders, strays."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from handler.values.emotions import EKMAN, MIKELS
from train.datasets.layouts.folders import DatasetError, read_folders


def fill(folder: Path, count: int, suffix: str = ".jpg") -> list[Path]:
    """Files with different bytes; nothing here decodes them."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{i:03}{suffix}" for i in range(count)]
    for file in files:
        file.write_text(str(file))
    return files


def refusal(root: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        read_folders(root, MIKELS)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_split_folders_are_kept_as_they_are(tmp_path: Path) -> None:
    for split, count in (("train", 6), ("val", 2), ("test", 3)):
        fill(tmp_path / split / "awe", count)
        fill(tmp_path / split / "fear", count)
    dataset = read_folders(tmp_path, MIKELS)
    assert Counter(dataset.table["split"]) == {"train": 12, "val": 4, "test": 6}
    for row in dataset.table.itertuples():
        assert Path(row.path).relative_to(tmp_path).parts[0] == row.split
        assert MIKELS.labels[row.label] == Path(row.path).parent.name
    assert len(dataset.split("all")) == 22
    assert set(dataset.split("val")["split"]) == {"val"}


def test_without_split_folders_each_emotion_is_split_80_5_15(tmp_path: Path) -> None:
    fill(tmp_path / "awe", 100)
    fill(tmp_path / "fear", 40)
    table = read_folders(tmp_path, MIKELS).table
    for emotion, counts in (
        ("awe", {"train": 80, "val": 5, "test": 15}),
        ("fear", {"train": 32, "val": 2, "test": 6}),
    ):
        assert Counter(table[table["label"] == MIKELS.index(emotion)]["split"]) == counts


def test_a_random_split_is_disjoint_complete_and_mixed(tmp_path: Path) -> None:
    files = fill(tmp_path / "awe", 100)
    dataset = read_folders(tmp_path, MIKELS)
    parts = [set(dataset.split(name)["path"]) for name in ("train", "val", "test")]
    assert set.union(*parts) == {str(file) for file in files}
    assert sum(len(part) for part in parts) == len(files)
    assert parts[0] != {str(file) for file in files[:80]}


def test_a_random_split_is_the_same_again_and_another_with_another_seed(tmp_path: Path) -> None:
    fill(tmp_path / "awe", 100)
    first = read_folders(tmp_path, MIKELS).table
    assert first.equals(read_folders(tmp_path, MIKELS).table)
    assert not first.equals(read_folders(tmp_path, MIKELS, seed=19).table)


def test_emotions_are_known_under_any_alias_and_case(tmp_path: Path) -> None:
    names = {"SAD": "sadness", "Amuse": "amusement", "anger": "anger", "Content": "contentment"}
    for name in names:
        fill(tmp_path / "train" / name, 2)
    table = read_folders(tmp_path, MIKELS).table
    found = {Path(row.path).parent.name: MIKELS.labels[row.label] for row in table.itertuples()}
    assert found == names


def test_the_wheel_decides_which_folders_are_emotions(tmp_path: Path) -> None:
    fill(tmp_path / "train" / "joy", 2)
    fill(tmp_path / "train" / "awe", 3)
    dataset = read_folders(tmp_path, EKMAN)
    assert len(dataset.table) == 2
    assert dataset.ignored == 1


def test_every_usual_image_suffix_is_read_in_any_case(tmp_path: Path) -> None:
    suffixes = [".jpg", ".JPEG", ".png", ".gif", ".WebP", ".bmp", ".tif", ".tiff", ".avif"]
    for suffix in suffixes:
        fill(tmp_path / "train" / "awe", 1, suffix)
    table = read_folders(tmp_path, MIKELS).table
    assert {Path(path).suffix for path in table["path"]} == set(suffixes)


def test_images_in_folders_below_an_emotion_belong_to_it(tmp_path: Path) -> None:
    fill(tmp_path / "train" / "awe" / "part1", 2)
    assert len(read_folders(tmp_path, MIKELS).table) == 2


def test_five_copies_are_a_placeholder_and_four_are_photos(tmp_path: Path) -> None:
    photos = fill(tmp_path / "train" / "awe", 12)
    for file in photos[:5]:
        file.write_text("no longer available")
    for file in photos[5:9]:
        file.write_text("a photo that some people liked")
    dataset = read_folders(tmp_path, MIKELS)
    assert dataset.placeholders == 5
    assert set(dataset.table["path"]) == {str(file) for file in photos[5:]}


def test_copies_are_counted_over_all_emotions_and_splits(tmp_path: Path) -> None:
    fill(tmp_path / "train" / "fear", 1)
    for place in ("train/awe", "train/fear", "val/awe", "val/fear", "test/awe"):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / "gone.jpg").write_text("no longer available")
    dataset = read_folders(tmp_path, MIKELS)
    assert dataset.placeholders == 5
    assert len(dataset.table) == 1


def test_stray_files_and_folders_are_ignored_and_counted(tmp_path: Path) -> None:
    fill(tmp_path / "train" / "awe", 3)
    (tmp_path / "train" / "awe" / "Thumbs.db").write_text("x")
    (tmp_path / "train" / "awe" / "._000.jpg").write_text("what macOS leaves in zips")
    (tmp_path / "train" / "readme.txt").write_text("x")
    (tmp_path / "licence.txt").write_text("x")
    fill(tmp_path / "train" / "unsorted", 2)
    fill(tmp_path / "originals", 2)
    dataset = read_folders(tmp_path, MIKELS)
    assert len(dataset.table) == 3
    assert dataset.ignored == 6


def test_equal_bytes_have_equal_digests(tmp_path: Path) -> None:
    one, two, three = fill(tmp_path / "train" / "awe", 3)
    two.write_bytes(one.read_bytes())
    digests = read_folders(tmp_path, MIKELS).table.set_index("path")["sha256"]
    assert digests[str(one)] == digests[str(two)] != digests[str(three)]


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "nowhere is not a folder" in refusal(tmp_path / "nowhere")


def test_a_folder_without_emotions_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    fill(tmp_path / "cats", 2)
    assert "train/amusement/*.jpg" in refusal(tmp_path)


def test_a_data_set_of_placeholders_only_is_refused(tmp_path: Path) -> None:
    for file in fill(tmp_path / "train" / "awe", 6):
        file.write_text("no longer available")
    assert "placeholder" in refusal(tmp_path)


def test_a_split_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    fill(tmp_path / "train" / "awe", 2)
    fill(tmp_path / "val" / "awe", 2)
    with pytest.raises(DatasetError, match="no split 'test': it has train, val"):
        read_folders(tmp_path, MIKELS).split("test")


def test_split_folders_are_known_under_other_names(tmp_path: Path) -> None:
    for name in ("Training", "valid", "testing"):
        fill(tmp_path / name / "awe", 1)
    assert set(read_folders(tmp_path, MIKELS).table["split"]) == {"train", "val", "test"}


@pytest.mark.parametrize("name", ["train", "val", "dev", "test"])
def test_a_folder_that_is_only_named_like_a_split_hides_nothing(tmp_path: Path, name: str) -> None:
    fill(tmp_path / "awe", 4)
    fill(tmp_path / "fear", 4)
    fill(tmp_path / name / "code", 1)
    dataset = read_folders(tmp_path, MIKELS)
    assert len(dataset.table) == 8
    assert dataset.split_source == "random"
    assert dataset.refused == {"no emotion of mikels-8": [name]}


def test_beside_splits_a_folder_that_is_only_named_like_one_is_left_out(tmp_path: Path) -> None:
    fill(tmp_path / "train" / "awe", 4)
    fill(tmp_path / "dev" / "code", 1)
    assert read_folders(tmp_path, MIKELS).refused == {"beside the split folders": ["dev"]}


def test_without_a_validation_split_a_part_of_training_serves_as_one(tmp_path: Path) -> None:
    fill(tmp_path / "train" / "awe", 34)
    fill(tmp_path / "train" / "fear", 2)
    fill(tmp_path / "test" / "awe", 5)
    dataset = read_folders(tmp_path, MIKELS)
    counted = Counter(zip(dataset.table["label"], dataset.table["split"], strict=True))
    awe, fear = MIKELS.index("awe"), MIKELS.index("fear")
    assert counted == {
        (awe, "train"): 32,
        (awe, "val"): 2,
        (awe, "test"): 5,
        (fear, "train"): 1,
        (fear, "val"): 1,
    }
    assert any("no validation split is given: 3 of 36" in note for note in dataset.notes)


def test_a_handful_of_photos_has_all_three_splits(tmp_path: Path) -> None:
    fill(tmp_path / "awe", 3)
    fill(tmp_path / "fear", 3)
    dataset = read_folders(tmp_path, MIKELS)
    for split in ("train", "val", "test"):
        assert sorted(dataset.split(split)["label"]) == [MIKELS.index("awe"), MIKELS.index("fear")]


def test_copies_of_a_photo_do_not_cross_a_random_split(tmp_path: Path) -> None:
    for file in fill(tmp_path / "awe", 20):
        for folder in ("awe", "fear"):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"copy-{file.name}").write_bytes(file.read_bytes())
    table = read_folders(tmp_path, MIKELS).table
    assert len(table) == 60
    assert (table.groupby("sha256")["split"].nunique() == 1).all()


def test_emotion_folders_may_lie_in_an_images_folder(tmp_path: Path) -> None:
    fill(tmp_path / "images" / "awe", 3)
    assert len(read_folders(tmp_path, MIKELS).table) == 3


def test_what_is_left_out_is_named_with_the_reason(tmp_path: Path) -> None:
    fill(tmp_path / "awe", 1)
    fill(tmp_path / "cats", 1)
    (tmp_path / "licence.txt").write_text("x")
    assert read_folders(tmp_path, MIKELS).refused == {
        "no emotion of mikels-8": ["cats"],
        "no emotion-named folder": ["licence.txt"],
    }
