"""FER2013 in all its forms gives the same faces."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from train.datasets.layouts.fer2013 import EXPRESSIONS, FerTable, find_fer2013, read_fer2013
from train.datasets.table import DatasetError

USAGES = ["Training", "Training", "Training", "PublicTest", "PrivateTest"]
LABELS = [3, 0, 6, 1, 5]


@pytest.fixture
def faces():
    return np.random.default_rng(1).integers(0, 256, (5, 48, 48), dtype=np.uint8)


def pixels_of(face):
    return " ".join(map(str, face.ravel()))


def write_folders(root, faces, names=EXPRESSIONS, usages=USAGES):
    for i, (face, label, usage) in enumerate(zip(faces, LABELS, usages, strict=True)):
        folder = root / usage / names[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(face).save(folder / f"{i}.png")


def assert_same_faces(table: FerTable, faces) -> None:
    assert table.pixels.dtype == np.uint8
    assert table.labels.dtype == np.int64
    found = {f.tobytes(): (label, u) for f, label, u in zip(*fields(table), strict=True)}
    expected = zip(faces, LABELS, USAGES, strict=True)
    assert found == {f.tobytes(): (label, usage) for f, label, usage in expected}


def fields(table):
    return table.pixels, table.labels, table.usage


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("fer2013.csv", "emotion,pixels,Usage"),
        ("icml_face_data.csv", "emotion, Usage, pixels"),
        ("fer2013/fer2013.csv", '"emotion","pixels","Usage"'),
    ],
)
def test_csv_files(tmp_path, faces, name, header):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    usage_last = header.endswith(("Usage", 'Usage"'))
    lines = [
        f"{label},{pixels_of(face)},{usage}" if usage_last else f"{label},{usage},{pixels_of(face)}"
        for face, label, usage in zip(faces, LABELS, USAGES, strict=True)
    ]
    path.write_text("\n".join([header, *lines]))
    assert_same_faces(read_fer2013(tmp_path), faces)
    assert_same_faces(read_fer2013(path), faces)


def test_folders(tmp_path, faces):
    write_folders(tmp_path, faces)
    seen = []
    table = read_fer2013(tmp_path, on_progress=lambda done, total: seen.append((done, total)))
    assert_same_faces(table, faces)
    assert seen[-1] == (5, 5)


def test_folders_under_other_names(tmp_path, faces):
    names = ("Angry", "disgusted", "fearful", "happy", "sad", "surprised", "neutral")
    write_folders(tmp_path, faces, names, ["train", "train", "train", "test", "test"])
    table = read_fer2013(tmp_path)
    assert sorted(table.labels.tolist()) == sorted(LABELS)
    assert table.split("train")[1].tolist() == table.split("Training")[1].tolist()
    assert len(table.split("test")[1]) == 2


def test_the_competitions_file_has_no_usage_and_all_of_it_is_for_training(tmp_path, faces):
    lines = [f"{label},{pixels_of(face)}" for face, label in zip(faces, LABELS, strict=True)]
    (tmp_path / "train.csv").write_text("\n".join(["emotion,pixels", *lines]))
    (tmp_path / "test.csv").write_text(f"pixels\n{pixels_of(faces[0])}\n")
    pixels, labels = read_fer2013(tmp_path).split("Training")
    assert np.array_equal(pixels, faces)
    assert labels.tolist() == LABELS


def test_hdf5_files_are_read_where_h5py_is_there_and_named_where_not(tmp_path, faces):
    try:
        import h5py  # noqa: PLC0415 - not everybody has it
    except ModuleNotFoundError:
        (tmp_path / "data.h5").write_bytes(b"\x89HDF\r\n")
        with pytest.raises(DatasetError, match="install h5py"):
            read_fer2013(tmp_path)
        return
    with h5py.File(tmp_path / "data.h5", "w") as file:
        for usage in ("Training", "PublicTest", "PrivateTest"):
            rows = [i for i, other in enumerate(USAGES) if other == usage]
            file.create_dataset(f"{usage}_pixel", data=faces[rows].reshape(len(rows), -1))
            file.create_dataset(f"{usage}_label", data=[LABELS[i] for i in rows])
    assert_same_faces(read_fer2013(tmp_path), faces)


def test_damaged_lines_are_counted_and_the_others_read(tmp_path, faces):
    good = pixels_of(faces[0])
    lines = [
        f"3,{good},Training",
        f"3,{good[:-4]},Training",
        f"7,{good},Training",
        f"happy,{good},Training",
        f"3,{good.replace('1', '900')},Training",
        f"3,{good},Holiday",
    ]
    (tmp_path / "fer2013.csv").write_text("\n".join(["emotion,pixels,Usage", *lines]))
    table = read_fer2013(tmp_path)
    assert len(table) == 1
    assert {reason: len(names) for reason, names in table.refused.items()} == {
        "not 2304 numbers of 0 to 255": 2,
        "no label of 0 to 6": 2,
        "unknown usage": 1,
    }


def test_damaged_images_and_other_sizes_are_counted(tmp_path, faces):
    write_folders(tmp_path, faces)
    (tmp_path / "Training" / "sad").mkdir()
    (tmp_path / "Training" / "sad" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    Image.new("L", (64, 64)).save(tmp_path / "Training" / "sad" / "large.png")
    (tmp_path / "Training" / "sad" / os.fsdecode(b"no text\xff.png")).write_bytes(b"no picture")
    table = read_fer2013(tmp_path)
    assert len(table) == 5
    assert sorted(name for names in table.refused.values() for name in names) == [
        "Training/sad/broken.png",
        "Training/sad/large.png",
        r"Training/sad/no text\xff.png",
    ]


def test_a_usage_that_is_not_there_is_refused_with_those_that_are(tmp_path, faces):
    write_folders(tmp_path, faces)
    with pytest.raises(DatasetError, match="'val': it has PrivateTest, PublicTest, Training"):
        read_fer2013(tmp_path).split("val")


def test_other_folders_and_tables_are_not_taken_for_it(tmp_path):
    (tmp_path / "train" / "angry").mkdir(parents=True)
    Image.new("RGB", (224, 224)).save(tmp_path / "train" / "angry" / "1.png")
    (tmp_path / "train.csv").write_text("path,class\n1.jpg,2\n")
    assert find_fer2013(tmp_path) is None
    with pytest.raises(DatasetError, match=r"no FER2013 .* looked for fer2013\.csv"):
        read_fer2013(tmp_path)


def test_a_file_without_any_face_is_refused(tmp_path):
    (tmp_path / "fer2013.csv").write_text("emotion,pixels,Usage\n0,1 2 3,Training\n")
    with pytest.raises(DatasetError, match="no face could be read"):
        read_fer2013(tmp_path)
