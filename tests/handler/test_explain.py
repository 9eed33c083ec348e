"""The drawings show what the prediction says."""

import numpy as np
import pytest
import torch

from handler.explain import draw_activation, draw_stimuli, sheet
from handler.predictor import AttendedObject, Face, Prediction

GREY = torch.full((3, 100, 200), 128, dtype=torch.uint8)


def prediction(**changes):
    values = {
        "emotion": "awe",
        "probabilities": {"awe": 0.7, "fear": 0.3},
        "p_positive": 0.7,
        "polarity": "positive",
        "face_count": 0,
        "face": None,
        "objects": (),
        "activation": None,
        "width": 200,
        "height": 100,
    }
    return Prediction(**{**values, **changes})


def pixels(drawing):
    return np.asarray(drawing, dtype=np.int64)


def test_the_hot_place_of_the_activation_is_drawn_red_and_the_cold_one_blue():
    drawing = pixels(draw_activation(GREY, prediction(activation=((1.0, 0.0),))))
    hot, cold = drawing[160, 10], drawing[160, -10]
    assert hot[0] > hot[2] + 50
    assert cold[2] > cold[0] + 50


def test_drawing_an_activation_that_was_not_asked_for_is_an_error():
    with pytest.raises(ValueError, match="explain=True"):
        draw_activation(GREY, prediction())


def test_an_attended_object_is_shaded_more_than_a_neglected_one():
    objects = (
        AttendedObject("dog", 0.9, (0, 0, 80, 100), 0.8),
        AttendedObject("cat", 0.9, (120, 0, 200, 100), 0.1),
    )
    drawing = pixels(draw_stimuli(GREY, prediction(objects=objects)))
    plain = pixels(draw_stimuli(GREY, prediction()))
    change = np.abs(drawing - plain).sum(axis=2)
    assert change[200, 150] > 3 * change[200, 500] > 0
    assert change[200, 320] == 0, "between the objects nothing is drawn"


def test_an_object_is_named_with_its_attribute(monkeypatch):
    written = []
    monkeypatch.setattr(
        "handler.explain._write", lambda pen, place, text, font: written.append(text)
    )
    objects = (
        AttendedObject("dog", 0.9, (0, 0, 80, 100), 0.5, attribute="brown"),
        AttendedObject("dog", 0.9, (10, 0, 80, 100), 0.3, attribute="brown"),
        AttendedObject("dog", 0.9, (120, 0, 200, 100), 0.2),
    )
    draw_stimuli(GREY, prediction(objects=objects))
    assert written == ["brown dog 50%", "dog 20%"], "each name once, where it matters most"


def test_the_face_is_framed_where_it_is():
    face = Face((50, 25, 100, 75), 1.0)
    drawing = pixels(draw_stimuli(GREY, prediction(face=face, face_count=1)))
    assert tuple(drawing[160, 160]) == (0, 158, 255), "left edge, at drawing scale 3.2"
    assert tuple(drawing[160, 240]) == (128, 128, 128), "inside stays visible"


def test_a_sheet_shows_photo_map_and_bars_side_by_side():
    both = sheet(GREY, prediction(activation=((0.0, 1.0),)))
    alone = sheet(GREY, prediction())
    assert both.height == alone.height == 320
    assert both.width - alone.width == 640


@pytest.mark.parametrize("shape", [(1, 1), (3, 2000), (2000, 3)])
def test_odd_shapes_can_be_drawn(shape):
    image = torch.zeros((3, *shape), dtype=torch.uint8)
    assert sheet(image, prediction(activation=((0.5,),))).width > 0
