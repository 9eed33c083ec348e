"""Where a box lies in an image, in words: what a region is called that has no name."""

from __future__ import annotations

Box = tuple[float, float, float, float]

_NEARLY_ALL = 0.8  # of a side, above which a box is on neither end of it
_FIRST, _LAST = 0.42, 0.58  # of a side: a box whose middle lies between is in the middle


def place_of(box: Box, *, width: float, height: float) -> str:
    """The place of a box, as in "upper left", "top", "middle" or "whole photo".

    Args:
        box: Box, xyxy, pixels.
        width: Width of the image, pixels.
        height: Height of the image, pixels.
    """
    left, top, right, bottom = box
    across = _end(left, right, width)
    down = _end(top, bottom, height)
    if right - left >= _NEARLY_ALL * width and bottom - top >= _NEARLY_ALL * height:
        return "whole photo"
    if across and down:
        return f"{('upper', 'lower')[down > 0]} {('left', 'right')[across > 0]}"
    if down:
        return ("top", "bottom")[down > 0]
    if across:
        return ("left", "right")[across > 0]
    return "middle"


def _end(first: float, last: float, side: float) -> int:
    """-1 for a stretch near the beginning of a side, 1 near its end, 0 for neither."""
    if last - first >= _NEARLY_ALL * side:
        return 0
    middle = (first + last) / 2 / max(side, 1e-9)
    return -1 if middle < _FIRST else 1 if middle > _LAST else 0
