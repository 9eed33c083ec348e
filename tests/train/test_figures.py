"""The figures show the photos that they say they show."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from handler.predictor import Predictor
from handler.values.emotions import MIKELS
from handler.values.prediction import Prediction
from train.evaluation.contact_sheet import TILE, Section, Tile, Words, contact_sheet
from train.evaluation.figures import Scored, best_of_each_emotion, make_figures, worst_failures

NAMES = ("12-activation", "13-objects", "14-faces", "15-failures")


def scored(label, said, p, path=None):
    rest = (1 - p) / 7
    probabilities = {emotion: p if emotion == said else rest for emotion in MIKELS.labels}
    positive = sum(list(probabilities.values())[:4])
    answer = Prediction(
        emotion=said,
        probabilities=probabilities,
        p_positive=positive,
        polarity="positive" if positive >= 0.5 else "negative",
        face_count=0,
        face=None,
        objects=(),
        activation=None,
        width=10,
        height=10,
    )
    return Scored(path or f"{label}-{said}-{p}", label, answer)


def paths(photos):
    return [one.path for one in photos]


def test_the_best_of_each_emotion_come_before_the_second_best_of_any():
    photos = [
        *(scored("awe", "awe", p, f"awe {p}") for p in (0.5, 0.9, 0.8)),
        scored("fear", "fear", 0.4, "fear 0.4"),
        scored("sadness", "fear", 0.99, "wrong"),
    ]
    assert paths(best_of_each_emotion(photos, MIKELS, 2)) == ["awe 0.9", "fear 0.4"]
    three = paths(best_of_each_emotion(photos, MIKELS, 3))
    assert three == ["awe 0.9", "awe 0.8", "fear 0.4"], "in the wheel's order"
    assert "wrong" not in paths(best_of_each_emotion(photos, MIKELS, 99))


def test_failures_are_easy_with_the_right_polarity_and_hard_with_the_wrong_one():
    photos = [
        scored("awe", "awe", 0.99),
        scored("awe", "contentment", 0.6, "easy 0.6"),
        scored("fear", "anger", 0.7, "easy 0.7"),
        scored("awe", "fear", 0.5, "hard 0.5"),
        scored("sadness", "amusement", 0.8, "hard 0.8"),
    ]
    easy, hard = worst_failures(photos, MIKELS, 8)
    assert paths(easy) == ["easy 0.7", "easy 0.6"]
    assert paths(hard) == ["hard 0.8", "hard 0.5"]
    easy, hard = worst_failures(photos, MIKELS, 1)
    assert paths(easy) == ["easy 0.7"]
    assert paths(hard) == ["hard 0.8"]


def test_photos_of_equal_confidence_always_come_in_the_same_order():
    photos = [scored("awe", "awe", 0.5, name) for name in ("c", "a", "b")]
    assert paths(best_of_each_emotion(photos, MIKELS, 2)) == ["a", "b"]


@pytest.fixture(scope="module")
def made(tmp_path_factory, photo, portrait, tiny_model):
    """Photos labelled by what the network itself says, but for two; a face; a broken file."""
    root, out = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("figures")
    predictor = Predictor.load(tiny_model)
    pictures = {f"{seed}.png": photo(seed, (80, 64)) for seed in range(6)}
    pictures["portrait.png"] = portrait.resize((256, 256))
    for place, (name, picture) in enumerate(pictures.items()):
        first = root / name
        picture.save(first)
        (answer,) = predictor.predict([first.read_bytes()])
        label = answer.emotion
        if place < 2:  # one easy failure and one hard one
            index = MIKELS.index(label)
            other = index ^ 1 if place == 0 else (index + 4) % 8
            label = MIKELS.labels[other]
        (root / "val" / label).mkdir(parents=True, exist_ok=True)
        first.rename(root / "val" / label / name)
    folder = next((root / "val").iterdir())
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff not a photo")
    files = make_figures(predictor, root, out / "new", count=4)
    documents = {
        name: json.loads((out / "new" / f"figure-{name}.json").read_text()) for name in NAMES
    }
    return root, files, documents


def test_each_figure_is_a_picture_and_a_list(made):
    _, files, _ = made
    expected = [f"figure-{name}{suffix}" for name in NAMES for suffix in (".png", ".json")]
    assert [file.name for file in files] == expected
    for file in files[::2]:
        assert Image.open(file).width >= 3 * TILE


def test_lists_say_which_model_and_photos(made):
    root, _, documents = made
    for name, document in documents.items():
        assert document["figure"] == int(name[:2])
        assert document["model"]["name"] == "tiny"
        assert document["split"] == "val"
        assert document["photos"] == 7
        assert document["refused"] == 1
        for item in document["items"]:
            assert (root / item["image"]).is_file()
            assert item["label"] in item["image"], "the folder is the label"
            assert 0 < item["probability"] <= 1


def test_the_first_three_show_right_predictions_with_their_reasons(made):
    _, _, documents = made
    for name, reason in zip(NAMES, ("activation", "objects", "face"), strict=False):
        for item in documents[name]["items"]:
            assert item["label"] == item["predicted"]
            assert item[reason]
    assert len(documents["12-activation"]["items"]) == 4
    (face,) = documents["14-faces"]["items"]
    assert face["image"].endswith("portrait.png")
    assert face["face"]["crop"]


def test_the_last_shows_wrong_predictions_by_kind(made):
    _, _, documents = made
    items = documents["15-failures"]["items"]
    assert {item["image"].rsplit("/")[-1]: item["kind"] for item in items} == {
        "0.png": "easy",
        "1.png": "hard",
    }
    assert all(item["label"] != item["predicted"] for item in items)


def test_a_figure_without_photos_says_so_and_is_drawn_all_the_same(photo, tiny_model, tmp_path):
    predictor = Predictor.load(tiny_model)
    predictor.network.semantic_net = None
    predictor.network.response.forward = all_alike
    (tmp_path / "val" / "awe").mkdir(parents=True)
    photo(1).save(tmp_path / "val" / "awe" / "0.png")
    make_figures(predictor, tmp_path, tmp_path / "out")
    for name in ("13-objects", "14-faces"):
        assert json.loads((tmp_path / "out" / f"figure-{name}.json").read_text())["items"] == []
        assert Image.open(tmp_path / "out" / f"figure-{name}.png").height > 100


def all_alike(features):
    """Every emotion is as probable as any other."""
    return torch.full((len(features[0]), 8), 1 / 8).log()


def tile(height=50, words=("a caption",)):
    picture = Image.new("RGB", (TILE, height), (255, 0, 255))
    return Tile([picture], [Words(text) for text in words])


def test_a_page_holds_every_tile_four_to_a_row():
    drawn = np.asarray(contact_sheet("title", ["note"], [Section("", [tile() for _ in range(6)])]))
    pink = (drawn == (255, 0, 255)).all(axis=2)
    assert pink.sum() == 6 * TILE * 50
    assert pink.sum(axis=1).max() == 4 * TILE


def test_a_page_with_long_words_is_no_wider():
    long = Section("heading " * 60, [tile(words=["words " * 60, "and more " * 60])])
    page = contact_sheet("title " * 60, ["note " * 60], [long, Section("none", [])])
    usual = contact_sheet("title", ["note"], [Section("heading", [tile(words=["a", "b"])])])
    assert page.width == usual.width
    drawn = np.asarray(page)
    assert (drawn[:, -10:] == 255).all(), "the margin stays free"
