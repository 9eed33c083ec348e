"""The reasons for a prediction, drawn on the photo.

Three drawings for the three stimuli: where Global-Net saw the emotion (class activation map,
Fig. 12 of the paper), how much Semantic-Net attended to each object (Fig. 13), and the face that
Expression-Net read (Fig. 14). The same facts as data are in `Prediction`.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from handler.predictor import AttendedObject, Prediction

_SIDE = 640  # longer side of a drawing in pixels
_OBJECT = (255, 176, 0)
_FACE = (0, 158, 255)
_LABELLED = 3  # the most attended objects are named


def draw_activation(image: torch.Tensor, prediction: Prediction) -> Image.Image:
    """The photo under its class activation map: red where the emotion was seen.

    Args:
        image: uint8, 3xHxW, as decoded.
        prediction: of that image, made with ``explain=True``.

    Raises:
        ValueError: the prediction carries no activation map.
    """
    if prediction.activation is None:
        raise ValueError("the prediction has no activation map: predict with explain=True")
    photo, _ = _canvas(image)
    heat = Image.fromarray((np.array(prediction.activation) * 255).astype(np.uint8))
    values = np.asarray(heat.resize(photo.size, Image.Resampling.BICUBIC), np.float32) / 255.0
    tint = np.stack([values, 0.35 * (1 - abs(2 * values - 1)), 1 - values], axis=-1) * 255.0
    grey = np.asarray(photo.convert("L"), np.float32)[..., None]
    return Image.fromarray((0.55 * grey + 0.45 * tint).clip(0, 255).astype(np.uint8))


def draw_stimuli(image: torch.Tensor, prediction: Prediction) -> Image.Image:
    """The photo with its objects, shaded by attention, and its face.

    Args:
        image: uint8, 3xHxW, as decoded.
        prediction: of that image.
    """
    photo, scale = _canvas(image)
    shade = Image.new("RGBA", photo.size, (0, 0, 0, 0))
    pen = ImageDraw.Draw(shade)
    strongest = max((item.attention for item in prediction.objects), default=0.0) or 1.0
    for item in prediction.objects:
        opacity = int(150 * item.attention / strongest)
        pen.rectangle(_scaled(item.box, scale), fill=(*_OBJECT, opacity), outline=(*_OBJECT, 255))
    drawing = Image.alpha_composite(photo.convert("RGBA"), shade)
    pen = ImageDraw.Draw(drawing)
    font = ImageFont.load_default(size=max(12, photo.width // 40))
    for item in _named(prediction.objects):
        x, y = _scaled(item.box, scale)[:2]
        _write(pen, (x + 2, y + 2), f"{item.name} {item.attention:.0%}", font)
    if prediction.face:
        box = _scaled(prediction.face.box, scale)
        pen.rectangle(box, outline=_FACE, width=max(2, photo.width // 200))
        _write(pen, (box[0] + 2, box[3] + 2), "face", font)
    return drawing.convert("RGB")


def sheet(image: torch.Tensor, prediction: Prediction) -> Image.Image:
    """One picture that tells all: activation, stimuli, and the probabilities as bars.

    Args:
        image: uint8, 3xHxW, as decoded.
        prediction: of that image, made with ``explain=True``.
    """
    panels = [draw_stimuli(image, prediction)]
    if prediction.activation is not None:
        panels.append(draw_activation(image, prediction))
    width, height = panels[0].size
    bars = _bars(prediction, 360, height)
    page = Image.new("RGB", (width * len(panels) + bars.width, height), "white")
    for position, panel in enumerate(panels):
        page.paste(panel, (width * position, 0))
    page.paste(bars, (width * len(panels), 0))
    return page


def _bars(prediction: Prediction, width: int, height: int) -> Image.Image:
    chart = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(chart)
    rows = list(prediction.probabilities.items())
    step = height / (len(rows) + 1)
    font = ImageFont.load_default(size=max(9, min(16, int(step * 0.5))))
    for row, (label, probability) in enumerate(rows):
        y = step * row + step * 0.25
        colour = _OBJECT if label == prediction.emotion else (190, 190, 190)
        pen.rectangle((130, y, 130 + probability * (width - 190), y + step * 0.5), fill=colour)
        pen.text((10, y), label, fill="black", font=font)
        pen.text((width - 50, y), f"{probability:.0%}", fill="black", font=font)
    pen.text(
        (10, step * len(rows) + step * 0.2),
        f"{prediction.polarity} {prediction.polarity_probability:.0%}",
        fill="black",
        font=font,
    )
    return chart


def _named(objects: tuple[AttendedObject, ...]) -> list[AttendedObject]:
    """The most attended object of each name, the first few names only."""
    first: dict[str, AttendedObject] = {}
    for item in objects:
        first.setdefault(item.name, item)
    return list(first.values())[:_LABELLED]


def _canvas(image: torch.Tensor) -> tuple[Image.Image, float]:
    """The photo at drawing size, and that size over the photo's own."""
    photo = Image.fromarray(image.permute(1, 2, 0).numpy())
    scale = _SIDE / max(photo.size)
    size = (max(round(photo.width * scale), 1), max(round(photo.height * scale), 1))
    return photo.resize(size, Image.Resampling.BILINEAR), scale


def _scaled(
    box: tuple[float, float, float, float], scale: float
) -> tuple[float, float, float, float]:
    return (box[0] * scale, box[1] * scale, box[2] * scale, box[3] * scale)


def _write(
    pen: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    pen.text(place, text, fill="white", font=font, stroke_width=2, stroke_fill="black")
