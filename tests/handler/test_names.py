"""Names of regions: said where they are likely right, else a place is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import nn

from handler.client.answers import prediction_of
from handler.drawing.overlays import draw_objects
from handler.drawing.sheet import objects_panel
from handler.predictor import Predictor
from handler.stimuli.objects.classifier_logits import ComputedLogits, PrecomputedLogits
from handler.stimuli.objects.grid import IMAGENET_CATEGORIES, GridObjects
from handler.stimuli.objects.imagenet_names import NAMES, membership
from handler.stimuli.objects.window_names import name_windows
from handler.stimuli.stimuli import Objects
from handler.values.configs import SelectorConfig
from handler.values.places import place_of
from handler.values.prediction import AttendedObject, ModelIdentity, Prediction
from vea.demo.page import make_card
from vea.tables import show_reasons

PHOTOS = Path(__file__).parents[2] / "vea" / "photos"
WHOLE, LEFT, RIGHT = 0, 1, 2
# The whole picture, its left half and its right half, over a map of one row and four cells.
INSIDE = torch.tensor([[0.25] * 4, [0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]])
SNAKE = 7.0  # a logit; the two other categories have none


def named(*cells: float, threshold: float = 0.7) -> list[float]:
    """Scores of the three windows, for cells whose first category has these logits."""
    logits = torch.zeros(1, 4, 3)
    logits[0, :, 0] = torch.tensor(cells)
    scores, labels = name_windows(
        PrecomputedLogits(logits, INSIDE), INSIDE, torch.eye(3), threshold
    )
    assert labels.shape == (1, 3)
    return scores[0].tolist()


# --- where the evidence lies ---------------------------------------------------------------------


def test_the_window_with_the_evidence_is_named_and_bare_grass_beside_it_is_not() -> None:
    scores = named(0.0, 1.0, SNAKE, SNAKE)
    mean = torch.tensor([0.5, 0.0, 0.0]).softmax(0)[0]
    assert mean < scores[RIGHT]
    assert scores[WHOLE] >= 0.7
    assert scores[RIGHT] >= 0.7
    assert scores[LEFT] < 0.7


def test_one_loud_cell_does_not_name_a_window() -> None:
    """The mean of its features would: a logit of 20 in one of two cells is 10 on average."""
    scores = named(0.0, 20.0, 0.0, 0.0)
    assert torch.tensor([10.0, 0.0, 0.0]).softmax(0)[0] > 0.99
    assert scores[LEFT] < 0.85
    assert named(0.0, 8.0, -4.0, -4.0)[LEFT] < 0.7, "the whole picture does not agree"


def test_where_the_whole_picture_is_unsure_the_cells_are_not_asked() -> None:
    asked = []

    class Listening(nn.Module):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            asked.append(features.ndim)
            return features

    cells = torch.zeros(2, 4, 3)
    logits = ComputedLogits(Listening(), cells, INSIDE @ cells)
    scores, _ = name_windows(logits, INSIDE, torch.eye(3), 0.7)
    assert asked == [2], "only the whole pictures"
    assert (scores < 0.7).all()


def test_of_a_mean_a_classifier_says_the_mean_of_what_it_says_of_cells() -> None:
    cells, classifier = torch.randn(2, 4, 5), nn.Linear(5, 3)
    with torch.no_grad():
        asked = ComputedLogits(classifier, cells, INSIDE @ cells)
        given = PrecomputedLogits(classifier(cells), INSIDE)
        some = torch.tensor([False, True])
        for one, other in (
            (asked.windows(), given.windows()),
            (asked.whole(), given.whole()),
            (asked.cells(some), given.cells(some)),
        ):
            torch.testing.assert_close(one, other)


# --- names ---------------------------------------------------------------------------------------


def test_every_category_has_at_most_one_name_and_every_name_a_category() -> None:
    table = membership()
    assert table.shape == (1000, len(NAMES))
    assert table.sum(dim=1).max() == 1
    assert table.sum(dim=0).min() >= 1
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize(
    ("category", "name"),
    [
        ("golden retriever", "dog"),
        ("tabby", "cat"),
        ("Indian cobra", "snake"),
        ("lion", "lion"),
        ("bald eagle", "bird"),
        ("espresso", "cup"),
        ("airliner", "aeroplane"),
        ("seashore", "water"),
        ("daisy", "flower"),
        ("acoustic guitar", "guitar"),
        ("cheeseburger", "food"),
        ("sports car", "car"),
    ],
)
def test_a_category_is_called_as_people_call_it(category: str, name: str) -> None:
    row = membership()[IMAGENET_CATEGORIES.index(category)]
    assert NAMES[int(row.argmax())] == name
    assert row.sum() == 1


@pytest.mark.parametrize(
    "category",
    ["bikini", "brassiere", "diaper", "stretcher", "barbell", "bobsled", "neck brace", "lab coat"],
)
def test_what_the_classifier_sees_in_people_is_never_a_name(category: str) -> None:
    assert membership()[IMAGENET_CATEGORIES.index(category)].sum() == 0


# --- thresholds ----------------------------------------------------------------------------------


def test_the_threshold_is_a_setting_of_the_model_and_older_models_get_the_calibrated_one() -> None:
    older = SelectorConfig.from_dict({"objects": {"source": "grid"}})
    assert "name_threshold" not in older.objects
    assert GridObjects(size=64).name_threshold == 0.7
    assert GridObjects(size=64, name_threshold=0.9).name_threshold == 0.9
    with pytest.raises(ValueError, match=r"objects\.name_threshold"):
        SelectorConfig(objects={"source": "grid", "name_threshold": -1})


@pytest.mark.parametrize("by", ["names", "labels"])
def test_below_the_threshold_there_is_no_label_and_no_attribute(
    tiny_model: Path, encode, photo, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    predictor = Predictor.load(tiny_model)
    source = predictor.selector.objects
    select = source.select
    scores = torch.tensor([[0.71, 0.69, 0.9, 0.1, 0.7]])
    labels = torch.tensor([[1, 1, 2, 2, 3]])

    def told(images: list[torch.Tensor]) -> Objects:
        objects = replace(select(images), attributes=torch.zeros(1, 5, dtype=torch.int64))
        if by == "names":
            return replace(objects, names=labels, name_scores=scores)
        return replace(objects, labels=labels, scores=scores, names=None, name_scores=None)

    monkeypatch.setattr(source, "select", told)
    monkeypatch.setattr(source, "attributes", ("red",), raising=False)
    answer = predictor.predict([encode(photo(0, (96, 64)), "PNG")])[0]
    words = source.names if by == "names" else source.vocabulary
    by_score = {round(item.score, 2): item for item in answer.objects}
    assert by_score[0.71].label == words[1]
    assert by_score[0.71].attribute == "red"
    assert by_score[0.9].label == words[2]
    assert by_score[0.7].label == words[3], "the threshold itself is enough"
    for score in (0.69, 0.1):
        assert by_score[score].label is None
        assert by_score[score].attribute is None
        assert by_score[score].attention > 0, "it keeps its attention and its box"


# --- what is shown -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("box", "place"),
    [
        ((0, 0, 100, 100), "whole photo"),
        ((0, 0, 40, 40), "upper left"),
        ((60, 60, 100, 100), "lower right"),
        ((30, 0, 70, 40), "top"),
        ((30, 60, 70, 100), "bottom"),
        ((0, 30, 40, 70), "left"),
        ((60, 30, 100, 70), "right"),
        ((30, 30, 70, 70), "middle"),
        ((0, 0, 100, 30), "top"),
        ((0, 0, 20, 100), "left"),
    ],
)
def test_a_place_is_told_in_words(box: tuple[float, ...], place: str) -> None:
    assert place_of(box, width=100, height=100) == place
    left, top, right, bottom = box
    assert place_of((3 * left, top, 3 * right, bottom), width=300, height=100) == place


def scene() -> Prediction:
    """A dog twice, and two places."""
    return Prediction(
        emotion="awe",
        probabilities={"awe": 0.75, "fear": 0.25},
        p_positive=0.75,
        polarity="positive",
        face_count=0,
        face=None,
        objects=(
            AttendedObject(None, 0.4, (0, 0, 100, 100), 0.4),
            AttendedObject("dog", 0.8, (0, 0, 40, 40), 0.25),
            AttendedObject("dog", 0.9, (30, 30, 70, 70), 0.2),
            AttendedObject(None, 0.3, (60, 60, 100, 100), 0.15),
        ),
        activation=((0.0, 1.0), (0.5, 0.2)),
        width=100,
        height=100,
    )


def test_attention_is_added_up_under_names_and_places_stay_apart() -> None:
    names, places = scene().attention_by_name()
    assert names == {"dog": pytest.approx(0.45)}
    assert places == {"whole photo": 0.4, "lower right": 0.15}


def test_json_says_null_and_the_client_reads_it_back() -> None:
    answer = scene()
    said = json.loads(json.dumps(answer.to_dict(ModelIdentity("m", "1", "d"), explain=True)))
    assert [item["label"] for item in said["objects"]] == [None, "dog", "dog", None]
    assert prediction_of(said).objects == answer.objects


def test_the_table_of_reasons_tells_the_place_of_what_has_no_name() -> None:
    console = Console(record=True, width=100)
    show_reasons(console, {"one.jpg": scene()})
    lines = console.export_text().splitlines()
    (whole,) = [line for line in lines if "whole photo" in line]
    assert "40%" in whole
    assert whole.count("%") == 1, "no confidence of a name that is not said"
    assert any("dog" in line and "80%" in line for line in lines)


def test_the_demo_says_names_and_places_only_where_there_are_no_names() -> None:
    picture = PHOTOS.joinpath("coffee.jpg").read_bytes()
    assert make_card("a", picture, scene(), 200).reasons == "attended to dog 45%; no face"
    nameless = replace(scene(), objects=tuple(replace(one, label=None) for one in scene().objects))
    reasons = make_card("a", picture, nameless, 200).reasons
    assert reasons.startswith("attended to whole photo 40%, upper left 25%")


def test_drawings_write_names_and_places_only_where_there_are_no_names() -> None:
    photo = torch.full((3, 400, 400), 200, dtype=torch.uint8)
    answer = replace(
        scene(),
        width=400,
        height=400,
        objects=(
            AttendedObject(None, 0.4, (240, 240, 400, 400), 0.5),
            AttendedObject("dog", 0.8, (0, 0, 160, 160), 0.5),
        ),
    )

    def dark(drawing: Image.Image, box: tuple[int, int, int, int]) -> int:
        grey = drawing.crop(box).convert("L")
        return sum(grey.histogram()[:90])

    drawing = draw_objects(photo, answer, within=(400, 400))
    assert dark(drawing, (0, 0, 160, 160)) > 500
    assert dark(drawing, (240, 240, 400, 400)) == 0
    nameless = replace(answer, objects=answer.objects[:1])
    drawing = draw_objects(photo, nameless, within=(400, 400))
    assert dark(drawing, (240, 240, 400, 400)) > 500, "lower right"
    assert objects_panel(photo, answer).width == 600


# --- the shipped model ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped() -> Predictor:
    return Predictor.load()


@pytest.mark.parametrize(
    ("photo", "expected"), [("cat.webp", {"cat"}), ("astronaut.jpg", set()), ("grass.jpg", set())]
)
def test_the_shipped_model_names_what_is_there_and_nothing_else(
    shipped: Predictor, photo: str, expected: set[str]
) -> None:
    """Its windows of an astronaut were once a stretcher, a barbell and a bobsled."""
    (answer,) = shipped.predict([PHOTOS.joinpath(photo).read_bytes()])
    assert {item.label for item in answer.objects if item.label} == expected
    assert len(answer.objects) == 10
