"""The probabilities as an emotion wheel: Mikels' eight emotions, or those of any other wheel.

Every emotion has a sector of the same angle, positive ones on the right and negative ones on the
left. A sector's area, not its radius, is proportional to the probability, so that twice as much
looks twice as much; rings tell how much that is. The bar below sums the two polarities (Eq. 14
and 15).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from PIL import Image, ImageDraw

from handler.drawing.canvas import (
    INK,
    LINE,
    NEGATIVE,
    PAPER,
    POSITIVE,
    QUIET,
    Size,
    blend,
    percent,
    polarity_colour,
    text_width,
    word_colour,
    write,
)
from handler.values.emotions import is_positive

_RINGS = (0.25, 0.5, 1.0)
_FINE = 3  # sectors are drawn this many times larger and reduced, which smooths their edges
_BAR = 26  # height of the bar in pixels
_TEXT, _SMALL = 17, 13
_NAME_SPACE = 150  # pixels left and right of the wheel, for the names


def draw_wheel(probabilities: Mapping[str, float], *, size: Size = (600, 470)) -> Image.Image:
    """A wheel with its names and per cent, and the bar of the polarities below it.

    Args:
        probabilities: Probability of each emotion, positive emotions first; they sum to 1.
        size: Width and height of the drawing in pixels; at least 460 by 300.
    """
    width, height = size
    top = max(probabilities, key=probabilities.__getitem__)
    below = _BAR + 46
    radius = min((height - below - 56) // 2, width // 2 - _NAME_SPACE)
    centre = (width // 2, (height - below) // 2)
    chart = Image.new("RGB", size, PAPER)
    disc = _disc(probabilities, top, radius)
    chart.paste(disc, (centre[0] - disc.width // 2, centre[1] - disc.height // 2))
    pen = ImageDraw.Draw(chart)
    sectors = _sectors(probabilities)
    # Along the upper border between the halves, where no sector has its name.
    border = math.radians(next(iter(sectors.values()))[0])
    for ring in _RINGS:
        reach = radius * math.sqrt(ring)
        place = (centre[0] + reach * math.cos(border), centre[1] + reach * math.sin(border))
        _ring_name(pen, place, f"{ring:.0%}")
    for label, (start, end) in sectors.items():
        _name(pen, centre, radius, label, probabilities[label], (start + end) / 2, label == top)
    _polarity_bar(pen, probabilities, (0, height - below + 16, width, height))
    return chart


def _sectors(probabilities: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """From where to where each emotion's sector goes: degrees, clockwise from the right.

    The middle of the positive emotions points to the right, whatever their share of the wheel.
    """
    step = 360 / len(probabilities)
    first = -step * sum(map(is_positive, probabilities)) / 2
    return {
        label: (first + step * i, first + step * (i + 1)) for i, label in enumerate(probabilities)
    }


def _disc(probabilities: Mapping[str, float], top: str, radius: int) -> Image.Image:
    """The sectors and rings alone."""
    middle = (radius + 6) * _FINE
    disc = Image.new("RGB", (2 * middle, 2 * middle), PAPER)
    pen = ImageDraw.Draw(disc)

    def around(reach: float) -> tuple[float, float, float, float]:
        return (middle - reach, middle - reach, middle + reach, middle + reach)

    full = radius * _FINE
    for label, (start, end) in _sectors(probabilities).items():
        colour = polarity_colour(label)
        pen.pieslice(around(full), start, end, fill=blend(colour, PAPER, 0.1))
        reach = full * math.sqrt(max(probabilities[label], 0.0))
        strength = 1.0 if label == top else 0.62
        pen.pieslice(around(reach), start, end, fill=blend(colour, PAPER, strength))
    for ring in _RINGS:
        pen.ellipse(around(full * math.sqrt(ring)), outline=LINE, width=_FINE)
    for border, _ in _sectors(probabilities).values():
        across, down = math.cos(math.radians(border)), math.sin(math.radians(border))
        rim = (middle + full * across, middle + full * down)
        pen.line((middle, middle, *rim), fill=PAPER, width=2 * _FINE)
    reach = full * math.sqrt(probabilities[top])
    pen.pieslice(around(reach), *_sectors(probabilities)[top], outline=INK, width=2 * _FINE)
    return disc.resize((disc.width // _FINE, disc.height // _FINE), Image.Resampling.LANCZOS)


def _ring_name(pen: ImageDraw.ImageDraw, place: tuple[float, float], text: str) -> None:
    half = text_width(text, _SMALL) / 2 + 2
    x, y = place
    pen.rectangle((x - half, y - 7, x + half, y + 7), fill=PAPER)
    write(pen, place, text, size=_SMALL, colour=QUIET, anchor="mm")


def _name(
    pen: ImageDraw.ImageDraw,
    centre: tuple[int, int],
    radius: int,
    label: str,
    probability: float,
    angle: float,
    is_top: bool,
) -> None:
    """An emotion's name and per cent outside its sector."""
    across, down = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    x, y = centre[0] + (radius + 12) * across, centre[1] + (radius + 12) * down
    side = "l" if across > 0.2 else "r" if across < -0.2 else "m"
    y += 12 * down  # two lines need more room above and below the wheel
    write(
        *(pen, (x, y - 10), label),
        size=_TEXT,
        colour=word_colour(label) if is_top else INK,
        bold=is_top,
        anchor=f"{side}m",
        width=_NAME_SPACE - 12,
    )
    write(
        *(pen, (x, y + 10), percent(probability)),
        size=_TEXT,
        colour=INK if is_top else QUIET,
        bold=is_top,
        anchor=f"{side}m",
    )


def _polarity_bar(
    pen: ImageDraw.ImageDraw,
    probabilities: Mapping[str, float],
    place: tuple[int, int, int, int],
) -> None:
    """Negative from the left, positive from the right, as on the wheel; names above."""
    left, top, right, bottom = place
    positive = sum(p for label, p in probabilities.items() if is_positive(label))
    border = left + (right - left) * (1 - min(max(positive, 0.0), 1.0))
    pen.rectangle((left, bottom - _BAR, right - 1, bottom - 1), fill=POSITIVE)
    if border > left:
        pen.rectangle((left, bottom - _BAR, border, bottom - 1), fill=NEGATIVE)
    words = (
        (left, "l", "negative", 1 - positive, positive < 0.5),
        (right, "r", "positive", positive, positive >= 0.5),
    )
    for x, side, name, share, is_more in words:
        write(
            *(pen, (x, top + 12), f"{name} {percent(share)}"),
            size=_TEXT,
            colour=word_colour(name),
            bold=is_more,
            anchor=f"{side}m",
        )
