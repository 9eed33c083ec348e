"""Detected things as further reasons: the attention that they hold, and how they are told."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources

import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from handler.client.answers import model_of, prediction_of
from handler.drawing.canvas import THING
from handler.drawing.overlays import draw_objects, draw_stimuli
from handler.drawing.sheet import sheet
from handler.values.places import Box
from handler.values.prediction import AttendedObject, ModelIdentity, Prediction
from handler.values.things import DetectedThing, attention_within, in_number
from jobs.output.parquet import schema
from jobs.scoring.rows import scored_row
from vea.demo.page import make_card
from vea.tables import show_reasons

PHOTO = torch.full((3, 400, 400), 200, dtype=torch.uint8)
PICTURE = resources.files("vea").joinpath("photos/coffee.jpg").read_bytes()
MODEL = ModelIdentity("m", "1", "d")


def scene(*things: DetectedThing, label: str | None = None) -> Prediction:
    """Two windows that halve the picture, the left one with three times the attention."""
    return Prediction(
        emotion="awe",
        probabilities={"awe": 0.75, "fear": 0.25},
        p_positive=0.75,
        polarity="positive",
        face_count=0,
        face=None,
        objects=(
            AttendedObject(label, 0.8, (0, 0, 200, 400), 0.75),
            AttendedObject(None, 0.3, (200, 0, 400, 400), 0.25),
        ),
        activation=((0.0, 1.0), (0.5, 0.2)),
        width=400,
        height=400,
        detected=things,
    )


def thing(box: Box, label: str = "person", attention: float = 0.5) -> DetectedThing:
    return DetectedThing(label, 0.9, box, attention)


# --- attention -----------------------------------------------------------------------------------

WINDOWS = [((0.0, 0.0, 200.0, 400.0), 0.75), ((200.0, 0.0, 400.0, 400.0), 0.25)]


@pytest.mark.parametrize(
    ("boxes", "share"),
    [
        ([(0, 0, 400, 400)], 1.0),
        ([(0, 0, 100, 200)], 0.75 / 4),
        ([(100, 0, 300, 400)], 0.75 / 2 + 0.25 / 2),
        ([(400, 400, 500, 500)], 0.0),
        ([(0, 0, 100, 400), (50, 0, 200, 400)], 0.75),  # what both cover counts once
        ([(0, 0, 100, 400), (0, 0, 100, 400)], 0.375),
        ([(0, 0, 200, 100), (0, 300, 200, 400), (50, 0, 150, 400)], 0.75 * 0.75),
        ([], 0.0),
    ],
)
def test_a_box_holds_the_attention_that_falls_into_it(boxes: list[Box], share: float) -> None:
    assert attention_within(WINDOWS, boxes) == pytest.approx(share)


def test_a_window_without_area_holds_nothing() -> None:
    assert attention_within([((5, 5, 5, 9), 1.0)], [(0, 0, 10, 10)]) == 0


boxes_of_whole_numbers = st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(1, 20)] * 2).map(
    lambda t: (float(t[0]), float(t[1]), float(t[0] + t[2]), float(t[1] + t[3]))
)


@settings(deadline=None)
@given(
    st.lists(st.tuples(boxes_of_whole_numbers, st.floats(0.01, 1)), min_size=1, max_size=5),
    st.lists(boxes_of_whole_numbers, max_size=5),
)
def test_the_share_is_the_sum_over_pixels_that_any_box_covers(
    windows: list[tuple[Box, float]], boxes: list[Box]
) -> None:
    attention, covered = torch.zeros(40, 40, dtype=torch.float64), torch.zeros(40, 40)
    for (x1, y1, x2, y2), weight in windows:
        area = (x2 - x1) * (y2 - y1)
        attention[int(y1) : int(y2), int(x1) : int(x2)] += weight / area
    for x1, y1, x2, y2 in boxes:
        covered[int(y1) : int(y2), int(x1) : int(x2)] = 1
    assert attention_within(windows, boxes) == pytest.approx(float((attention * covered).sum()))


def test_things_of_a_kind_are_told_together_and_what_they_share_counts_once() -> None:
    answer = scene(
        thing((0, 0, 150, 400)), thing((50, 0, 200, 400)), thing((300, 0, 400, 400), "boat")
    )
    assert answer.attention_by_thing() == {
        "2 people": pytest.approx(0.75),
        "boat": pytest.approx(0.125),
    }
    assert scene().attention_by_thing() == {}
    assert [in_number(name, 1) for name in ("person", "bus")] == ["person", "bus"]
    assert [in_number(name, 3) for name in ("person", "bus", "car")] == [
        "3 people",
        "3 buses",
        "3 cars",
    ]


# --- as data -------------------------------------------------------------------------------------


def test_json_keeps_them_apart_from_the_objects_and_the_client_reads_them_back() -> None:
    answer = scene(thing((1, 2, 30, 40), attention=0.25))
    said = json.loads(json.dumps(answer.to_dict(MODEL, explain=True)))
    assert said["detected"] == [
        {"label": "person", "score": 0.9, "box": [1, 2, 30, 40], "attention": 0.25}
    ]
    assert sum(item["attention"] for item in said["objects"]) == 1
    assert prediction_of(said).detected == answer.detected
    assert model_of(said).detects
    assert prediction_of(scene().to_dict(MODEL, explain=True)).detected == ()


def test_without_a_detector_nothing_is_said_of_one() -> None:
    answer = replace(scene(), detected=None)
    said = answer.to_dict(MODEL, explain=True)
    assert "detected" not in said
    assert prediction_of(said).detected is None
    assert not model_of(said).detects
    assert "detected" not in scene(thing((1, 2, 30, 40))).to_dict(MODEL), "only with reasons"


def test_rows_have_a_column_beside_the_boxes_if_the_model_has_a_detector() -> None:
    answer = scene(thing((1, 2, 30, 40), attention=0.25))
    row = scored_row(answer, boxes=True)
    assert row["detected"] == [
        {
            **dict(zip(("x1", "y1", "x2", "y2"), (1, 2, 30, 40), strict=True)),
            **{"label": "person", "score": 0.9, "attention": 0.25},
        }
    ]
    assert len(row["boxes"]) == row["objects"] == 2
    assert "detected" not in scored_row(answer, boxes=False)
    assert "detected" not in scored_row(replace(answer, detected=None), boxes=True)
    columns = {
        (boxes, detects): schema(["awe"], extra=pa.schema([]), boxes=boxes, detects=detects)
        for boxes in (False, True)
        for detects in (False, True)
    }
    assert [key for key, found in columns.items() if "detected" in found.names] == [(True, True)]
    assert columns[True, True].field("detected").type == columns[True, True].field("boxes").type


# --- for people ----------------------------------------------------------------------------------


def table(answer: Prediction) -> list[str]:
    console = Console(record=True, width=120)
    show_reasons(console, {"one.jpg": answer})
    return [line for line in console.export_text().splitlines() if "%" in line]


def test_the_table_has_a_person_first_where_the_box_holds_much() -> None:
    much = table(scene(thing((0, 0, 400, 400), attention=0.8)))
    assert "person (detected)" in much[0]
    assert "80%" in much[0]
    little = table(scene(thing((0, 0, 10, 10), attention=0.1)))
    assert "person (detected)" in little[-1], "and last, but there, where it holds little"
    assert len(table(scene(*[thing((0, 0, 10, 10))] * 9))) == 4, "two things, both objects"


def test_the_demo_tells_them_among_the_names_and_no_name_twice() -> None:
    def reasons(answer: Prediction) -> str:
        return make_card("a", PICTURE, answer, 200).reasons

    person = thing((0, 0, 100, 400))
    assert reasons(scene(person)) == "attended to person 38%; no face"
    assert reasons(scene(person, label="dog")) == "attended to dog 75%, person 38%; no face"
    boat = thing((0, 0, 200, 200), "boat")
    assert reasons(scene(boat, label="boat")) == "attended to boat 38%; no face"
    assert reasons(scene(boat, boat, label="boat")) == "attended to 2 boats 38%; no face"


def green(drawing: Image.Image, x: int, y: int) -> bool:
    near = [drawing.getpixel((x + dx, y)) for dx in (-1, 0, 1)]
    return THING in near


def test_drawings_frame_the_most_attended_things_and_no_more_than_there_are_names() -> None:
    boxes = [(20 * i + 10, 100 + 30 * i, 20 * i + 250, 350) for i in range(6)]
    answer = scene(*(thing(box, attention=0.9 - i / 10) for i, box in enumerate(boxes)))

    def framed(drawing: Image.Image) -> list[bool]:
        return [green(drawing, int(box[0]), 345) for box in boxes]

    first_three = [True] * 3 + [False] * 3
    assert framed(draw_stimuli(PHOTO, answer, within=(400, 400))) == first_three
    assert framed(draw_objects(PHOTO, answer, within=(400, 400), named=1)) == [True] + [False] * 5
    assert not any(framed(draw_objects(PHOTO, scene(), within=(400, 400))))


def test_a_thing_takes_the_place_of_the_names_of_places() -> None:
    def dark(drawing: Image.Image) -> int:
        return sum(drawing.crop((0, 0, 200, 60)).convert("L").histogram()[:90])

    plain = draw_objects(PHOTO, scene(), within=(400, 400))
    assert dark(plain) > 300, "the place of the left window is written"
    with_thing = draw_objects(PHOTO, scene(thing((250, 200, 390, 390))), within=(400, 400))
    assert dark(with_thing) == 0
    assert green(with_thing, 250, 390)


def test_the_sheet_tells_of_boxes_only_where_there_are_some() -> None:
    one, other = sheet(PHOTO, scene(thing((0, 0, 100, 400)))), sheet(PHOTO, scene())
    assert one.size == other.size
    assert one.tobytes() != other.tobytes()
    assert other.tobytes() == sheet(PHOTO, replace(scene(), detected=None)).tobytes()
