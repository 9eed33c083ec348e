"""The drawings show what the prediction says."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from handler.archive.loading import load_archive
from handler.drawing.canvas import (
    FACE,
    NEGATIVE,
    POSITIVE,
    fit_text,
    percent,
    photo_within,
    text_width,
)
from handler.drawing.emotion_wheel import draw_wheel
from handler.drawing.overlays import draw_face_crop, draw_face_place
from handler.drawing.sheet import (
    activation_panel,
    draw_activation,
    draw_objects,
    draw_stimuli,
    face_panel,
    objects_panel,
    sheet,
)
from handler.images import decode
from handler.predictor import Predictor
from handler.values.emotions import EKMAN, MIKELS, POLARITY, is_positive
from handler.values.prediction import AttendedObject, Face, Prediction

GREY = torch.full((3, 100, 200), 128, dtype=torch.uint8)
CROP = bytes(range(48)) * 48


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


def dog(box=(0, 0, 80, 100), attention=0.5, **changes):
    return AttendedObject(**{"label": "dog", "score": 0.9, **changes}, box=box, attention=attention)


def pixels(drawing):
    return np.asarray(drawing, dtype=np.int64)


def shard_of(drawing, colour):
    """How much of a drawing has nearly this colour."""
    return (np.abs(pixels(drawing) - np.array(colour)).max(axis=-1) < 12).mean()


@pytest.fixture
def written(monkeypatch):
    """Everything that is written on a drawing, as (text, place)."""
    lines = []

    def watch(module):
        original = module.write

        def remember(pen, place, text, **options):
            width = options.get("width")
            size = options["size"]
            lines.append((text if width is None else fit_text(text, size, width), place))
            original(pen, place, text, **options)

        monkeypatch.setattr(module, "write", remember)

    for name in ("sheet", "overlays", "emotion_wheel"):
        watch(sys.modules[f"handler.drawing.{name}"])
    return lines


def words(written):
    return [text for text, _ in written]


# The class activation map


def test_the_hot_place_of_the_activation_is_drawn_red_and_the_cold_one_blue():
    drawing = pixels(draw_activation(GREY, prediction(activation=((1.0, 0.0),))))
    hot, cold = drawing[160, 10], drawing[160, -10]
    assert hot[0] > hot[2] + 50
    assert cold[2] > cold[0] + 50


def test_drawing_an_activation_that_was_not_asked_for_is_an_error():
    with pytest.raises(ValueError, match="explain=True"):
        draw_activation(GREY, prediction())


def test_the_map_covers_only_what_the_network_saw():
    answer = prediction(activation=((1.0,),), activation_box=(50.0, 0.0, 150.0, 100.0))
    drawing = pixels(draw_activation(GREY, answer))
    inside, left, right = drawing[160, 320], drawing[160, 100], drawing[160, 540]
    assert inside[0] > inside[2] + 50
    for outside in (left, right):
        assert outside[0] == outside[1] == outside[2], "what was not seen has no colour"


def test_the_activation_has_a_legend_that_names_the_emotion(written):
    activation_panel(GREY, prediction(activation=((0.0, 1.0),)))
    assert "least" in words(written)
    assert "most evidence for awe" in words(written)


# The objects


def test_an_attended_object_is_shaded_more_than_a_neglected_one():
    first, second, last = (0, 0, 50, 100), (60, 0, 110, 100), (150, 0, 200, 100)
    objects = (dog(first, 0.7), dog(second, 0.2, label="cat"), dog(last, 0.1, label="hen"))
    drawing = pixels(draw_stimuli(GREY, prediction(objects=objects)))
    plain = pixels(draw_stimuli(GREY, prediction()))
    change = np.abs(drawing - plain).sum(axis=2)
    assert change[200, 80] > 3 * change[200, 272] > 0
    assert change[200, 560] == 0, "the least attended one is framed alone"
    assert change[200, 176] == 0, "between the objects nothing is drawn"


def test_even_attention_shades_nothing_and_a_lone_object_is_shaded_whole():
    plain = pixels(draw_stimuli(GREY, prediction()))
    even = (dog((0, 0, 150, 100), 0.5), dog((50, 0, 200, 100), 0.5, label="cat"))
    for objects, shaded in ((even, False), ((dog((0, 0, 150, 100), 1.0),), True)):
        drawing = pixels(draw_stimuli(GREY, prediction(objects=objects)))
        assert (drawing[200, 320] != plain[200, 320]).any() == shaded


def test_where_objects_overlap_the_most_attended_one_counts():
    strong, weak = dog((0, 0, 150, 100), 0.8), dog((50, 0, 200, 100), 0.1)
    drawing = pixels(draw_objects(GREY, prediction(objects=(strong, weak))))
    assert (drawing[200, 300] == drawing[200, 60]).all(), "as where the strong one is alone"
    assert (drawing[200, 300] != drawing[200, 560]).any()


def test_each_name_is_written_once_where_it_matters_most(written):
    objects = (
        dog(attribute="brown"),
        dog((10, 0, 80, 100), 0.3, attribute="brown"),
        dog((120, 0, 200, 100), 0.2),
    )
    draw_objects(GREY, prediction(objects=objects))
    assert words(written) == ["brown dog 50%", "dog 20%"]


def test_names_neither_overlap_nor_leave_the_drawing(written):
    objects = tuple(
        dog((150, 80, 200, 100), 0.2, label=f"{i} weathered wooden fence behind the old barn")
        for i in range(5)
    )
    drawing = draw_objects(GREY, prediction(objects=objects))
    assert len(written) >= 2
    boxes = [(x - 4, y - 11, x + 4 + text_width(text, 16), y + 11) for text, (x, y) in written]
    for left, top, right, bottom in boxes:
        assert left >= 0
        assert top >= 0
        assert right <= drawing.width
        assert bottom <= drawing.height
    for i, one in enumerate(boxes):
        for other in boxes[:i]:
            apart = one[3] <= other[1] or other[3] <= one[1]
            assert apart or one[2] <= other[0] or other[2] <= one[0]
    assert all(text.endswith("… 20%") for text in words(written)), "the share is never cut"


def test_the_panel_adds_up_the_attention_of_each_name(written):
    objects = (dog(attention=0.5), dog(attention=0.3, label="cat"), dog(attention=0.2))
    objects_panel(GREY, prediction(objects=objects))
    assert "In all: dog 70%, cat 30%" in words(written)
    assert "50% of the attention" in words(written)


def test_objects_that_nothing_weighed_are_framed_but_get_no_share(written):
    drawing = pixels(draw_objects(GREY, prediction(objects=(dog(attention=0.0),))))
    assert words(written) == ["dog"]
    assert (drawing[160, 256] != 128).any(), "the frame's right edge"
    assert (drawing[200, 100] == 128).all(), "no shade"
    objects_panel(GREY, prediction(objects=(dog(attention=0.0),)))
    assert "Not weighed: this network has no Semantic-Net." in words(written)


def test_no_objects_is_said(written):
    objects_panel(GREY, prediction())
    assert "No objects were found in this photo." in words(written)


# The face


def test_the_face_is_framed_where_it_is():
    face = Face((50, 25, 100, 75), 1.0)
    drawing = pixels(draw_stimuli(GREY, prediction(face=face, face_count=1)))
    assert tuple(drawing[160, 160]) == FACE, "left edge, at drawing scale 3.2"
    assert tuple(drawing[160, 240]) == (128, 128, 128), "inside stays visible"


def test_the_crop_is_drawn_pixel_for_pixel():
    face = Face((50, 25, 100, 75), 1.0, CROP)
    drawing = pixels(draw_face_crop(prediction(face=face, face_count=1), side=96))
    assert drawing.shape == (96, 96, 3)
    assert (drawing[::2, ::2, 0] == np.arange(48)).all()


def test_a_face_without_a_crop_or_no_face_cannot_be_drawn():
    with pytest.raises(ValueError, match="explain=True"):
        draw_face_crop(prediction(face=Face((0, 0, 9, 9), 1.0), face_count=1), side=96)
    with pytest.raises(ValueError, match="no face"):
        draw_face_place(GREY, prediction(), side=96)


def test_the_face_panel_shows_the_very_crop(written):
    face = Face((50, 25, 100, 75), 1.234, CROP)
    panel = pixels(face_panel(GREY, prediction(face=face, face_count=3)))
    crop = pixels(draw_face_crop(prediction(face=face, face_count=3), side=288))
    top = next(y for y in range(len(panel)) if (panel[y, 304:592] == crop[0]).all())
    assert (panel[top : top + 288, 304:592] == crop).all()
    assert "The largest of 3 faces; detector score 1.23." in words(written)


def test_no_face_is_said_and_so_is_a_face_that_nothing_reads(written):
    face_panel(GREY, prediction())
    assert "No face found" in words(written)
    written.clear()
    face_panel(GREY, prediction(face=Face((50, 25, 100, 75), 1.0), face_count=1))
    assert "this network has no Expression-Net" in words(written)


def test_the_crop_in_a_prediction_is_what_the_network_read(tiny_model, portrait, encode):
    predictor = Predictor.load(tiny_model)
    encoded = encode(portrait, "PNG")
    (plain,) = predictor.predict([encoded])
    (explained,) = predictor.predict([encoded], explain=True)
    assert plain.face.crop is None, "only if asked for"
    read = predictor.selector.select([decode(encoded)]).faces.crops[0, 0]
    assert (np.asarray(explained.face.crop_picture()) == read.numpy()).all()
    document = explained.to_dict(predictor.model, explain=True)
    assert document["face"]["crop"].startswith("iVBORw0KGgo"), "a PNG in base64"
    assert len(document["face"]["crop"]) < 4096
    assert "crop" not in plain.to_dict(predictor.model)["face"]


def test_a_network_without_expression_net_read_no_face(tiny_model, portrait, encode):
    archive = load_archive(tiny_model)
    archive.network.expression_net = None
    archive.network.response.forward = lambda features: torch.full((1, 8), 1 / 8).log()
    (answer,) = Predictor(archive).predict([encode(portrait, "PNG")], explain=True)
    assert answer.face is not None
    assert answer.face.crop is None


def test_a_selector_that_cuts_the_centre_says_what_the_map_covers(tiny_model, photo, encode):
    archive = load_archive(tiny_model)
    encoded = encode(photo(1, (96, 64)), "PNG")
    (whole,) = Predictor(archive).predict([encoded], explain=True)
    assert whole.activation_box == (0.0, 0.0, 96.0, 64.0)
    config = replace(archive.selector.config, fit="crop", size=64, resize=80)
    archive.selector.config = config
    (cut,) = Predictor(archive).predict([encoded], explain=True)
    side = 64 * 64 / 80
    expected = (48 - side / 2, 32 - side / 2, 48 + side / 2, 32 + side / 2)
    assert cut.activation_box == pytest.approx(expected)


# The wheel


def on_wheel(wheel, top, p):
    rest = (1 - p) / (len(wheel) - 1)
    return {label: p if label == top else rest for label in wheel.labels}


@pytest.mark.parametrize("wheel", [MIKELS, EKMAN, POLARITY], ids=lambda wheel: wheel.name)
def test_every_wheel_names_each_emotion_and_both_polarities(wheel, written):
    top = wheel.labels[-1]
    probabilities = on_wheel(wheel, top, 0.65)
    draw_wheel(probabilities)
    for label in wheel.labels:
        assert label in words(written)
    p_positive = sum(probabilities[label] for label in wheel.labels[: wheel.positives])
    assert f"positive {p_positive:.0%}" in words(written)
    assert f"negative {1 - p_positive:.0%}" in words(written)
    assert words(written).count("65%") == 1


@pytest.mark.parametrize("wheel", [MIKELS, EKMAN, POLARITY], ids=lambda wheel: wheel.name)
def test_names_on_the_wheel_are_inside_the_drawing_and_apart(wheel, written):
    draw_wheel(on_wheel(wheel, wheel.labels[0], 0.5), size=(600, 470))
    names = {text: place for text, place in written if text in wheel.labels}
    for text, (x, y) in names.items():
        half = text_width(text, 17)
        assert half / 2 <= x <= 600 - half / 2
        assert 9 <= y <= 460
    places = list(names.values())
    for i, (x, y) in enumerate(places):
        assert all(abs(x - a) > 100 or abs(y - b) > 40 for a, b in places[:i])


def test_positive_emotions_are_on_the_right_in_orange_and_negative_ones_on_the_left_in_blue():
    positive = draw_wheel(on_wheel(MIKELS, "awe", 1.0)).crop((0, 0, 600, 380))
    negative = draw_wheel(on_wheel(MIKELS, "fear", 1.0)).crop((0, 0, 600, 380))
    right, left = (300, 0, 600, 380), (0, 0, 300, 380)
    assert shard_of(positive.crop(right), POSITIVE) > 0.02
    assert shard_of(positive.crop(left), NEGATIVE) == 0
    assert shard_of(negative.crop(left), NEGATIVE) > 0.02
    assert shard_of(negative.crop(right), POSITIVE) == 0


def test_twice_the_probability_is_twice_the_area():
    def area(p):
        rest = (1 - p) / 4  # on the other half only, so that one sector is orange
        low = dict.fromkeys(MIKELS.labels, 0.0) | dict.fromkeys(MIKELS.labels[4:], rest)
        return shard_of(draw_wheel(low | {"awe": p}).crop((0, 0, 600, 380)), POSITIVE)

    assert area(0.9) / area(0.45) == pytest.approx(2.0, rel=0.15)


def test_the_polarity_bar_is_shared_as_the_probabilities_are():
    drawing = draw_wheel(on_wheel(POLARITY, "positive", 0.25), size=(600, 470))
    row = pixels(drawing)[-5]
    assert (np.abs(row - np.array(NEGATIVE)).sum(axis=1) < 10).mean() == pytest.approx(
        0.75, abs=0.01
    )


def test_emotions_have_the_polarity_of_their_wheel():
    for wheel in (MIKELS, EKMAN, POLARITY):
        for index, label in enumerate(wheel.labels):
            assert is_positive(label) == (wheel.polarity(index) == "positive")


# The sheet


def test_a_sheet_tells_emotion_polarity_and_all_three_stimuli(written):
    face = Face((50, 25, 100, 75), 1.0, CROP)
    sheet(
        GREY,
        prediction(activation=((0.0, 1.0),), objects=(dog(),), face=face, face_count=1),
    )
    for said in (
        *("awe", "70%", "positive 70%", "dog 50%", "Colour: where Global-Net saw awe"),
        *("Objects: what Semantic-Net attended to", "Face: what Expression-Net read"),
    ):
        assert said in words(written)


def test_a_sheet_of_a_network_with_one_branch_says_what_is_missing(written):
    page = sheet(GREY, prediction())
    for said in ("No activation map", "No objects were found in this photo.", "No face found"):
        assert said in words(written)
    assert page.width == 1284


def test_a_map_makes_a_difference_only_in_its_own_panel():
    answer = prediction(activation=((0.0, 1.0),))
    change = np.abs(pixels(sheet(GREY, answer)) - pixels(sheet(GREY, prediction()))).sum(axis=2)
    assert change[:, :630].any()
    assert not change[:, 660:].any()


@pytest.mark.parametrize("shape", [(1, 1), (3, 2000), (2000, 3), (40, 1500), (2400, 3600)])
def test_odd_shapes_can_be_drawn(shape):
    height, width = shape
    image = torch.zeros((3, height, width), dtype=torch.uint8)
    box = (0.4 * width, 0.4 * height, 0.6 * width, 0.6 * height)
    answer = prediction(
        activation=((0.5, 0.1),),
        activation_box=box,
        objects=(dog(box), dog((0.0, 0.0, float(width), float(height)), 0.2)),
        face=Face(box, 0.1, CROP),
        face_count=1,
        width=width,
        height=height,
    )
    page = sheet(image, answer)
    assert page.width == 1284
    assert page.height < 1400


def test_a_grey_photo_is_drawn_like_any_other(tiny_model, photo, encode):
    encoded = encode(photo(3).convert("L"), "PNG")
    (answer,) = Predictor.load(tiny_model).predict([encoded], explain=True)
    assert sheet(decode(encoded), answer).mode == "RGB"


# What drawings are made of


@given(text=st.text(max_size=60), size=st.integers(9, 40), width=st.floats(0, 400))
@settings(max_examples=60, deadline=None)
def test_fitted_text_is_never_wider_than_its_place(text, size, width):
    fitted = fit_text(text, size, width)
    assert text_width(fitted, size) <= max(width, 0)
    assert "\n" not in fitted


def test_text_is_cut_only_if_it_must_be():
    assert fit_text("a brown dog", 16, 400) == "a brown dog"
    cut = fit_text("a brown dog", 16, 60)
    assert cut.endswith("…")
    assert "a brown dog".startswith(cut.rstrip("…"))


def test_letters_that_the_font_lacks_lose_their_accents():
    assert fit_text("café\ncrème", 16, 400) == "cafe creme"


def test_small_shares_are_not_called_nothing():
    assert [percent(p) for p in (0.0, 0.001, 0.006, 0.994, 1.0)] == [
        "0%",
        "<1%",
        "1%",
        "99%",
        "100%",
    ]


@given(height=st.integers(1, 300), width=st.integers(1, 300))
@settings(max_examples=30, deadline=None)
def test_a_photo_fills_its_frame_in_one_direction_and_never_leaves_it(height, width):
    drawn = photo_within(torch.zeros((3, height, width), dtype=torch.uint8), (120, 90))
    assert drawn.width <= 120
    assert drawn.height <= 90
    assert drawn.width == 120 or drawn.height == 90
