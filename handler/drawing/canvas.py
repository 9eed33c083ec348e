"""What every drawing is made of: colours, words that keep within their place, photos in a frame.

Colours mean the same everywhere: orange is positive and blue negative, a pair that colour-blind
eyes tell apart; the class activation map runs from blue to red, as in Fig. 12 of the paper;
attention is the depth of one amber (Fig. 13); a green frame is a thing that a detector found, a
blue one a face. Drawing takes nothing that predicting does not take,
and the letters are those of Pillow's own font.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from handler.values.emotions import is_positive

Colour = tuple[int, int, int]
Size = tuple[int, int]

INK, QUIET, LINE = (28, 28, 34), (98, 98, 110), (222, 220, 214)
PAPER, GROUND = (255, 255, 255), (244, 243, 240)
POSITIVE, NEGATIVE = (200, 118, 29), (59, 110, 165)
_POSITIVE_WORDS = (158, 88, 8)  # letters are thin: orange ones are hard to read on white
ATTENTION, FACE, THING = (255, 176, 0), (0, 158, 255), (40, 214, 140)
_HEAT = ((44, 74, 160), (120, 180, 220), (250, 240, 190), (240, 120, 70), (178, 16, 38))


def polarity_colour(label: str) -> Colour:
    """Orange for a positive emotion of any wheel, blue for a negative one."""
    return POSITIVE if is_positive(label) else NEGATIVE


def word_colour(label: str) -> Colour:
    """As `polarity_colour`, dark enough for words on white."""
    return _POSITIVE_WORDS if is_positive(label) else NEGATIVE


def blend(colour: Colour, ground: Colour, share: float) -> Colour:
    """``share`` (0 to 1) of ``colour`` on ``ground``."""
    mixed = [round(share * c + (1 - share) * g) for c, g in zip(colour, ground, strict=True)]
    return (mixed[0], mixed[1], mixed[2])


def heat_colours(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values, 0 to 1, any shape -> colours of the class activation map, 0 to 255, shape + (3,)."""
    stops = np.linspace(0.0, 1.0, len(_HEAT))
    channels = [np.interp(values, stops, [stop[c] for stop in _HEAT]) for c in range(3)]
    return np.stack(channels, axis=-1).astype(np.float32)


def heat_bar(size: Size) -> Image.Image:
    """The colours of the class activation map, least on the left, at ``size`` pixels."""
    width, height = size
    row = heat_colours(np.linspace(0.0, 1.0, width, dtype=np.float32))
    return Image.fromarray(np.broadcast_to(row.round().astype(np.uint8), (height, width, 3)).copy())


def percent(share: float) -> str:
    """A share, 0 to 1, in whole per cent; what would round to nothing is ``<1%``."""
    return "<1%" if 0 < share < 0.005 else f"{share:.0%}"


@lru_cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, ``size`` pixels high: no host has to have one."""
    return ImageFont.load_default(size=size)


def text_width(text: str, size: int) -> float:
    """How many pixels wide `write` would draw ``text``."""
    return font(size).getlength(_plain(text))


def fit_text(text: str, size: int, width: float) -> str:
    """``text`` if it is at most ``width`` pixels wide, else its beginning and an ellipsis."""
    text = _plain(text)
    if text_width(text, size) <= width:
        return text
    letters = range(1, len(text))
    kept = bisect_right(letters, width, key=lambda n: text_width(text[:n].rstrip() + "…", size))
    return text[:kept].rstrip() + "…" if kept else ""


def write(
    pen: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    *,
    size: int,
    colour: Colour = INK,
    bold: bool = False,
    anchor: str = "la",
    width: float | None = None,
) -> None:
    """Write one line.

    Args:
        pen: Drawing context of the picture.
        place: Position of ``anchor``, in pixels.
        text: Text to write.
        size: Size of the font in pixels.
        colour: Colour of the letters.
        bold: Whether the letters are bold.
        anchor: Point of the text that lies at ``place``, as Pillow's two letters; ``la`` is left
            and top.
        width: Maximum width in pixels; longer text is cut.
    """
    line = _plain(text) if width is None else fit_text(text, size, width)
    thicker = max(size / 55, 0.35) if bold else 0
    pen.text(place, line, fill=colour, font=font(size), anchor=anchor, stroke_width=thicker)


def photo_within(image: torch.Tensor, size: Size) -> Image.Image:
    """A photo (uint8, 3xHxW) as large as it can be within ``size``, at least a pixel each way."""
    height, width = image.shape[-2:]
    scale = min(size[0] / width, size[1] / height)
    drawn = (max(round(width * scale), 1), max(round(height * scale), 1))
    small = transforms.resize(
        image, [drawn[1], drawn[0]], interpolation=InterpolationMode.BICUBIC, antialias=True
    )
    return Image.fromarray(np.ascontiguousarray(small.permute(1, 2, 0).numpy()))


def framed(picture: Image.Image, size: Size) -> Image.Image:
    """``picture`` in the middle of a quiet ground of ``size`` pixels, which it must not exceed."""
    frame = Image.new("RGB", size, GROUND)
    frame.paste(picture, ((size[0] - picture.width) // 2, (size[1] - picture.height) // 2))
    return frame


def _plain(text: str) -> str:
    """One line of what the font has: accents are dropped, ends of lines are spaces."""
    letters = unicodedata.normalize("NFKD", " ".join(text.split()).replace("…", "\0"))
    kept = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return kept.replace("\0", "…")
