"""The reasons for a prediction on one sheet: the three stimuli, and what they evoke together.

Four panels: the photo under its class activation map (Fig. 12 of the paper), its objects shaded by
attention (Fig. 13), its face as Expression-Net read it (Fig. 14), and the probabilities on the
emotion wheel. A branch that the network lacks, and a stimulus that the photo lacks, are said so in
their places. The same facts as data are in `Prediction`.
"""

from __future__ import annotations

import torch
from PIL import Image, ImageDraw

from handler.drawing.canvas import (
    ATTENTION,
    GROUND,
    INK,
    LINE,
    PAPER,
    QUIET,
    Size,
    blend,
    framed,
    heat_bar,
    percent,
    text_width,
    word_colour,
    write,
)
from handler.drawing.emotion_wheel import draw_wheel
from handler.drawing.overlays import (
    DEEPEST,
    attention_depths,
    draw_activation,
    draw_face_crop,
    draw_face_place,
    draw_objects,
    draw_stimuli,
    is_weighed,
)
from handler.values.prediction import Prediction

__all__ = [
    "activation_panel",
    "draw_activation",
    "draw_objects",
    "draw_stimuli",
    "face_panel",
    "objects_panel",
    "sheet",
    "wheel_panel",
]

_WIDTH = 600  # of a panel's content, in pixels
_TALLEST, _SHORTEST = 600, 260  # of a photo's frame
_WHEEL = 470  # height of the wheel, and of the face beside it
_TITLE, _TEXT = 19, 15
_ABOVE, _BELOW = 40, 54  # for a panel's title and its legend
_MARGIN = 28
_HEADER = 92


def sheet(image: torch.Tensor, prediction: Prediction) -> Image.Image:
    """One picture that tells all.

    Args:
        image: uint8, 3xHxW, as decoded.
        prediction: Prediction for the image, made with ``explain=True``.

    Returns:
        RGB, 1284 pixels wide, as high as the photo's shape asks for.
    """
    rows = [[activation_panel(image, prediction), objects_panel(image, prediction)]]
    # Where no faces were looked for, nothing is said of them.
    faces = [] if prediction.face_count is None else [face_panel(image, prediction)]
    rows.append([*faces, wheel_panel(prediction)])
    heights = [max(panel.height for panel in row) for row in rows]
    width = 2 * _WIDTH + 3 * _MARGIN
    height = _HEADER + sum(heights) + _MARGIN * len(rows)
    page = Image.new("RGB", (width, height), PAPER)
    _header(page, prediction)
    y = _HEADER
    for row, tallest in zip(rows, heights, strict=True):
        for column, panel in enumerate(row):
            page.paste(panel, (_MARGIN + column * (_WIDTH + _MARGIN), y))
        y += tallest + _MARGIN
    return page


def activation_panel(image: torch.Tensor, prediction: Prediction) -> Image.Image:
    """Where Global-Net saw the emotion, with the meaning of the colours; 600 pixels wide.

    Args:
        image: uint8, 3xHxW, as decoded.
        prediction: Prediction for the image, made with ``explain=True``.
    """
    size = _photo_frame(image)
    if prediction.activation is None:
        picture = _notice(size, "No activation map", "this network has no Global-Net")
        return _panel("Colour", picture, legend=None)
    picture = framed(draw_activation(image, prediction, within=size), size)
    panel = _panel(f"Colour: where Global-Net saw {prediction.emotion}", picture, legend=None)
    _legend(panel, heat_bar((180, 14)), "least", f"most evidence for {prediction.emotion}")
    return panel


def objects_panel(image: torch.Tensor, prediction: Prediction) -> Image.Image:
    """What Semantic-Net attended to, with the meaning of the shades; 600 pixels wide.

    Args:
        image: uint8, 3xHxW, as decoded.
        prediction: Prediction for the image.
    """
    size = _photo_frame(image)
    objects = prediction.objects
    picture = framed(draw_objects(image, prediction, within=size), size)
    if not objects:
        return _panel("Objects", picture, legend="No objects were found in this photo.")
    if not is_weighed(objects):
        return _panel("Objects", picture, legend="Not weighed: this network has no Semantic-Net.")
    panel = _panel("Objects: what Semantic-Net attended to", picture, legend=None)
    weights = [item.attention for item in objects]
    least, most = percent(min(weights)), f"{percent(max(weights))} of the attention"
    _legend(panel, _depths((180, 14), max(attention_depths(objects))), least, most)
    below = _ABOVE + size[1] + 34
    _write_line(panel, below, _in_words(prediction))
    return panel


def face_panel(image: torch.Tensor, prediction: Prediction) -> Image.Image:
    """The face in the photo and as Expression-Net read it; 600 pixels wide.

    Args:
        image: uint8, 3xHxW, as decoded.
        prediction: Prediction for the image, made with ``explain=True``.
    """
    face = prediction.face
    size = (_WIDTH, _WHEEL - _BELOW)
    if face is None:
        picture = _notice(size, "No face found", "the expression adds nothing to this prediction")
        return _panel("Face", picture, legend=None)
    side = 288  # six pixels for each pixel of the crop
    picture = Image.new("RGB", size, GROUND)
    top = (size[1] - side - 26) // 2
    place = framed(draw_face_place(image, prediction, side=side), (side, side))
    picture.paste(place, (8, top))
    pen = ImageDraw.Draw(picture)
    write(pen, (8, top + side + 8), "in the photo", size=_TEXT, colour=QUIET)
    if face.crop is None:
        beside = _notice((side, side), "Not read", "this network has no Expression-Net")
        title = "Face"
    else:
        beside = draw_face_crop(prediction, side=side)
        words = "as Expression-Net read it: 48 x 48, aligned"
        write(pen, (size[0] - side - 8, top + side + 8), words, size=_TEXT, colour=QUIET)
        title = "Face: what Expression-Net read"
    picture.paste(beside, (size[0] - side - 8, top))
    count = prediction.face_count
    which = "One face" if count == 1 else f"The largest of {count} faces"
    return _panel(title, picture, legend=f"{which}; detector score {face.score:.2f}.")


def wheel_panel(prediction: Prediction) -> Image.Image:
    """The probabilities on the emotion wheel; 600 pixels wide."""
    wheel = draw_wheel(prediction.probabilities, size=(_WIDTH, _WHEEL))
    panel = Image.new("RGB", (_WIDTH, _ABOVE + _WHEEL), PAPER)
    _panel_title(panel, "Emotions: the area of a sector is its probability")
    panel.paste(wheel, (0, _ABOVE))
    return panel


def _header(page: Image.Image, prediction: Prediction) -> None:
    pen = ImageDraw.Draw(page)
    probability = percent(prediction.probabilities[prediction.emotion])
    y, size = 44, 34
    write(
        *(pen, (_MARGIN, y), prediction.emotion),
        size=size,
        colour=word_colour(prediction.emotion),
        bold=True,
        anchor="lm",
    )
    x = _MARGIN + text_width(prediction.emotion, size) + 14
    write(pen, (x, y), probability, size=size, anchor="lm")
    x += text_width(probability, size) + 26
    polarity = f"{prediction.polarity} {percent(prediction.polarity_probability)}"
    write(
        *(pen, (x, y + 5), polarity),
        size=20,
        colour=word_colour(prediction.polarity),
        anchor="lm",
    )
    pixels = f"{prediction.width} x {prediction.height} pixels"
    write(pen, (page.width - _MARGIN, y + 5), pixels, size=_TEXT, colour=QUIET, anchor="rm")
    pen.line((_MARGIN, 76, page.width - _MARGIN, 76), fill=LINE, width=1)


def _photo_frame(image: torch.Tensor) -> Size:
    """A frame that suits the photo's shape: wide photos get lower ones."""
    height, width = image.shape[-2:]
    return (_WIDTH, min(max(round(_WIDTH * height / width), _SHORTEST), _TALLEST))


def _panel(title: str, picture: Image.Image, *, legend: str | None) -> Image.Image:
    """A picture under its title, with room for a legend, which is written if there is one."""
    panel = Image.new("RGB", (_WIDTH, _ABOVE + picture.height + _BELOW), PAPER)
    _panel_title(panel, title)
    panel.paste(picture, (0, _ABOVE))
    if legend:
        _write_line(panel, _ABOVE + picture.height + 10, legend)
    return panel


def _panel_title(panel: Image.Image, title: str) -> None:
    pen = ImageDraw.Draw(panel)
    write(pen, (0, _ABOVE // 2), title, size=_TITLE, bold=True, anchor="lm", width=_WIDTH)


def _write_line(panel: Image.Image, y: int, text: str) -> None:
    write(ImageDraw.Draw(panel), (0, y), text, size=_TEXT, colour=QUIET, width=_WIDTH)


def _legend(panel: Image.Image, bar: Image.Image, least: str, most: str) -> None:
    """A bar of colours between what its ends mean, right under the picture."""
    pen = ImageDraw.Draw(panel)
    y = panel.height - _BELOW + 17
    write(pen, (0, y), least, size=_TEXT, colour=INK, anchor="lm")
    x = round(text_width(least, _TEXT)) + 10
    panel.paste(bar, (x, y - bar.height // 2))
    write(pen, (x + bar.width + 10, y), most, size=_TEXT, colour=INK, anchor="lm")


def _depths(size: Size, deepest: float) -> Image.Image:
    """The shades of attention, from none on the left to ``deepest``."""
    width, height = size
    bar = Image.new("RGB", size)
    pen = ImageDraw.Draw(bar)
    for x in range(width):
        colour = blend(ATTENTION, (235, 234, 230), DEEPEST * deepest * x / (width - 1))
        pen.line((x, 0, x, height), fill=colour)
    return bar


def _in_words(prediction: Prediction) -> str:
    """Which names got how much, all objects of a name together, and what places without a name."""
    parts = [
        ", ".join(f"{words} {percent(weight)}" for words, weight in sums.items())
        for sums in (prediction.attention_by_thing(), *prediction.attention_by_name())
    ]
    starts = ("In green frames", "In all", "Not named")
    said = [f"{start}: {part}" for start, part in zip(starts, parts, strict=True) if part]
    return "; ".join(said)


def _notice(size: Size, finding: str, meaning: str) -> Image.Image:
    """A quiet panel that says what is not there, and what that means."""
    notice = Image.new("RGB", size, GROUND)
    pen = ImageDraw.Draw(notice)
    middle = (size[0] / 2, size[1] / 2)
    write(pen, (middle[0], middle[1] - 16), finding, size=24, colour=INK, anchor="mm")
    write(
        *(pen, (middle[0], middle[1] + 18), meaning),
        size=_TEXT,
        colour=QUIET,
        anchor="mm",
        width=size[0] - 16,
    )
    return notice
