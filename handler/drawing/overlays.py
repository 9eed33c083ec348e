"""The stimuli, drawn on the photo.

Where Global-Net saw the emotion (class activation map, Fig. 12 of the paper), how much Semantic-Net
attended to each object (Fig. 13), and the face that Expression-Net read, as it stands in the photo
and as the network got it (Fig. 14). Every drawing is the photo as large as it can be ``within`` a
width and a height in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw

from handler.drawing.canvas import (
    ATTENTION,
    FACE,
    GROUND,
    THING,
    Colour,
    Size,
    fit_text,
    heat_colours,
    percent,
    photo_within,
    text_width,
    write,
)
from handler.values.places import Box
from handler.values.prediction import AttendedObject, Prediction
from handler.values.things import DetectedThing

WITHIN = (640, 640)
DEEPEST = 0.68  # share of the attention colour on an object that has all the attention
_NAME_SHARE = 0.55  # of the drawing's width that a name may take, if that is enough for a word
_HEAT = 0.6  # share of the map's colour on the photo
_PLATE = (20, 20, 26, 190)  # what names are written on
_AROUND = 0.6  # of the face's side, shown on each side of it

_Boxes = list[tuple[float, float, float, float]]


def draw_activation(
    image: torch.Tensor, prediction: Prediction, *, within: Size = WITHIN
) -> Image.Image:
    """The photo under its class activation map: red where the emotion was seen, blue elsewhere.

    What Global-Net did not see, because only the centre is given to it, stays grey.

    Args:
        image: uint8, 3xHxW, as decoded.
        prediction: Prediction for the image, made with ``explain=True``.
        within: Maximum width and height of the drawing, in pixels.

    Raises:
        ValueError: The prediction has no activation map.
    """
    if prediction.activation is None:
        raise ValueError("the prediction has no activation map: predict with explain=True")
    photo = photo_within(image, within)
    grey = np.asarray(photo.convert("L"), np.float32)[..., None]
    drawing = np.repeat(0.5 * grey + 0.5 * GROUND[0], 3, axis=-1)
    left, top, right, bottom = _seen(prediction, photo)
    values = Image.fromarray(np.array(prediction.activation, np.float32))
    smooth = values.resize((right - left, bottom - top), Image.Resampling.BICUBIC)
    tint = heat_colours(np.asarray(smooth).clip(0.0, 1.0))
    inside = (slice(top, bottom), slice(left, right))
    drawing[inside] = (1 - _HEAT) * grey[inside] + _HEAT * tint
    return Image.fromarray(drawing.clip(0, 255).astype(np.uint8))


def draw_objects(
    image: torch.Tensor,
    prediction: Prediction,
    *,
    within: Size = WITHIN,
    text: int = 16,
    named: int = 5,
) -> Image.Image:
    """The photo with its objects: the deeper the colour, the more attention; the first are named.

    The first things that a detector found are framed among them, in a colour of their own.

    Args:
        image: uint8, 3xHxW, as decoded.
        prediction: Prediction for the image.
        within: Maximum width and height of the drawing, in pixels.
        text: Height of the names in pixels.
        named: Maximum number of names; each is written once, where there is room.
    """
    drawing, _ = _with_objects(photo_within(image, within), prediction, text, named)
    return drawing


def draw_face(image: torch.Tensor, prediction: Prediction, *, within: Size = WITHIN) -> Image.Image:
    """The photo with the face in a frame, if there is one."""
    drawing = photo_within(image, within)
    _frame_face(drawing, prediction)
    return drawing


def draw_stimuli(
    image: torch.Tensor,
    prediction: Prediction,
    *,
    within: Size = WITHIN,
    text: int = 16,
    named: int = 3,
) -> Image.Image:
    """As `draw_objects` and `draw_face` together."""
    drawing, taken = _with_objects(photo_within(image, within), prediction, text, named)
    if prediction.face:
        _frame_face(drawing, prediction)
        box = _to_drawing(prediction.face.box, prediction, drawing)
        _place_name(drawing, taken, box, "face", text, outside=True)
    return drawing


def draw_face_place(image: torch.Tensor, prediction: Prediction, *, side: int) -> Image.Image:
    """The face in a frame, with what is around it: at most ``side`` pixels each way.

    Raises:
        ValueError: The prediction has no face.
    """
    if prediction.face is None:
        raise ValueError("no face was found in this image")
    left, top, right, bottom = prediction.face.box
    margin = _AROUND * max(right - left, bottom - top)
    height, width = image.shape[-2:]
    x1, y1 = max(int(left - margin), 0), max(int(top - margin), 0)
    x2 = max(min(round(right + margin), width), x1 + 1)
    y2 = max(min(round(bottom + margin), height), y1 + 1)
    part = photo_within(image[:, y1:y2, x1:x2], (side, side))
    across, down = part.width / (x2 - x1), part.height / (y2 - y1)
    frame = ((left - x1) * across, (top - y1) * down, (right - x1) * across, (bottom - y1) * down)
    ImageDraw.Draw(part).rectangle(frame, outline=FACE, width=3)
    return part


def draw_face_crop(prediction: Prediction, *, side: int) -> Image.Image:
    """The pixels that Expression-Net read, each of them as a square; ``side`` pixels each way.

    Raises:
        ValueError: The prediction has no crop of a face.
    """
    crop = prediction.face.crop_picture() if prediction.face else None
    if crop is None:
        raise ValueError("the prediction has no crop of a face: predict with explain=True")
    return crop.convert("RGB").resize((side, side), Image.Resampling.NEAREST)


def is_weighed(objects: Sequence[AttendedObject]) -> bool:
    """Whether there is any attention: a network without Semantic-Net gives none."""
    return any(item.attention > 0 for item in objects)


def attention_depths(objects: Sequence[AttendedObject]) -> list[float]:
    """How deep each object is shaded, 0 to 1: by what it got more than the least attended one.

    That is a share of what the most attended one got: where attention is even it tells no object
    from another, and nothing is shaded, however much of the picture they cover.
    """
    weights = [item.attention for item in objects]
    most = max(weights, default=0.0)
    least = min(weights) if len(weights) > 1 else 0.0
    return [(weight - least) / most if most else 0.0 for weight in weights]


def _frame_face(drawing: Image.Image, prediction: Prediction) -> None:
    if prediction.face:
        box = _to_drawing(prediction.face.box, prediction, drawing)
        width = max(2, drawing.width // 200)
        ImageDraw.Draw(drawing).rectangle(box, outline=FACE, width=width)


def _with_objects(
    photo: Image.Image, prediction: Prediction, text: int, named: int
) -> tuple[Image.Image, _Boxes]:
    """The drawing, and where it has names already."""
    objects = prediction.objects
    weighed = is_weighed(objects)
    boxes = [_to_drawing(item.box, prediction, photo) for item in objects]
    depths = attention_depths(objects)
    opacity = np.zeros((photo.height, photo.width, 1), np.float32)
    for (left, top, right, bottom), depth in zip(boxes, depths, strict=True):
        # Where objects overlap, the most attended one counts.
        place = opacity[round(top) : round(bottom) + 1, round(left) : round(right) + 1]
        np.maximum(place, DEEPEST * depth, out=place)
    pixels = np.asarray(photo.convert("RGB"), np.float32)
    shaded = (1 - opacity) * pixels + opacity * np.array(ATTENTION, np.float32)
    drawing = Image.fromarray(shaded.round().astype(np.uint8))
    frames = Image.new("RGBA", photo.size, (0, 0, 0, 0))
    pen = ImageDraw.Draw(frames)
    for box, depth in reversed(list(zip(boxes, depths, strict=True))):
        strength = 60 + round(195 * depth) if weighed else 220
        pen.rectangle(box, outline=(*ATTENTION, strength), width=2)
    drawing.paste(frames, mask=frames.getchannel("A"))
    taken: _Boxes = []
    for item, words in _captions(prediction)[:named]:
        box = _to_drawing(item.box, prediction, drawing)
        thing = isinstance(item, DetectedThing)
        if thing:
            width = max(2, drawing.width // 250)
            ImageDraw.Draw(drawing).rectangle(box, outline=THING, width=width)
        share = f" {percent(item.attention)}" if weighed else ""
        _place_name(drawing, taken, box, words, text, ending=share, colour=THING if thing else None)
    return drawing, taken


def _captions(prediction: Prediction) -> list[tuple[AttendedObject | DetectedThing, str]]:
    """What is worth a name on the drawing, most attended first, with the name.

    Each detected thing, and each other name where it stands first, which is where it matters most;
    places, if there is no name at all.
    """
    things = [(thing, thing.label) for thing in prediction.detected or ()]
    some = bool(things) or any(item.name for item in prediction.objects)
    first: dict[str, AttendedObject] = {}
    for item in prediction.objects:
        if item.name or not some:
            first.setdefault(prediction.words_for(item), item)
    named = [(item, words) for words, item in first.items()]
    return sorted([*things, *named], key=lambda caption: -caption[0].attention)


def _place_name(
    drawing: Image.Image,
    taken: _Boxes,
    box: Box,
    words: str,
    size: int,
    *,
    ending: str = "",
    outside: bool = False,
    colour: Colour | None = None,
) -> None:
    """Write ``words`` and ``ending`` in or at ``box`` where nothing is written yet, or not at all.

    Long words are cut, never the ending. ``colour`` marks the plate.
    """
    widest = max(_NAME_SHARE * drawing.width, 12 * size)
    room = min(widest, drawing.width - 8) - text_width(ending, size)
    line = fit_text(words, size, room)
    if not line or (line != words and len(line) < 4) or drawing.height < size + 8:
        return  # a thread of pixels has no room for names
    line += ending
    width, height = text_width(line, size) + 8, size + 6
    left, top, right, bottom = box
    places = [
        (left + 2, top + 2),
        (left + 2, bottom - height - 2),
        (right - width - 2, top + 2),
        (left, top - height),
        (left, bottom + 1),
        (left + 2, (top + bottom - height) / 2),
    ]
    for wished_x, wished_y in reversed(places) if outside else places:
        x = min(max(wished_x, 0), drawing.width - width)
        y = min(max(wished_y, 0), drawing.height - height)
        plate = (x, y, x + width, y + height)
        if any(_overlap(plate, other) for other in taken):
            continue
        taken.append(plate)
        pen = ImageDraw.Draw(drawing, "RGBA")
        pen.rounded_rectangle(plate, radius=3, fill=_PLATE, outline=colour)
        write(pen, (x + 4, y + height / 2), line, size=size, colour=(255, 255, 255), anchor="lm")
        return


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _to_drawing(box: Box, prediction: Prediction, drawing: Image.Image) -> Box:
    """A box in the photo's pixels -> in the drawing's, never outside of it."""
    across, down = drawing.width / prediction.width, drawing.height / prediction.height
    right, bottom = drawing.width - 1.0, drawing.height - 1.0
    left, top = min(max(box[0] * across, 0.0), right), min(max(box[1] * down, 0.0), bottom)
    return (left, top, min(max(box[2] * across, left), right), min(max(box[3] * down, top), bottom))


def _seen(prediction: Prediction, drawing: Image.Image) -> tuple[int, int, int, int]:
    """What the activation map covers, in whole pixels of the drawing, at least one each way."""
    box = prediction.activation_box
    if box is None:
        return (0, 0, drawing.width, drawing.height)
    across, down = drawing.width / prediction.width, drawing.height / prediction.height
    left = min(round(box[0] * across), drawing.width - 1)
    top = min(round(box[1] * down), drawing.height - 1)
    right = min(max(round(box[2] * across), left + 1), drawing.width)
    bottom = min(max(round(box[3] * down), top + 1), drawing.height)
    return (left, top, right, bottom)
