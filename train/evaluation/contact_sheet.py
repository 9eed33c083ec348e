"""A contact sheet: small pictures with captions under headings, as in the paper's figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from handler.drawing.canvas import INK, LINE, PAPER, QUIET, Colour, write

TILE = 300  # width of a picture in pixels
_COLUMNS, _NARROWEST = 4, 3
_GAP, _MARGIN = 20, 28
_HEADER, _HEADING = 104, 46
_LINE = 24  # height of a caption's line


@dataclass(frozen=True)
class Words:
    """One line of a caption."""

    text: str
    colour: Colour = INK
    bold: bool = False


@dataclass(frozen=True)
class Tile:
    """Pictures below each other, each `TILE` wide, and what is written under them."""

    pictures: Sequence[Image.Image]
    caption: Sequence[Words]

    @property
    def height(self) -> int:
        """In pixels."""
        return sum(p.height + 4 for p in self.pictures) + _LINE * len(self.caption) + 6


@dataclass(frozen=True)
class Section:
    """Tiles under a heading, which may be empty; without tiles, ``missing`` is written."""

    heading: str
    tiles: Sequence[Tile]
    missing: str = "There are none."


def contact_sheet(title: str, notes: Sequence[str], sections: Sequence[Section]) -> Image.Image:
    """Draw the page.

    Args:
        title: Title of the sheet.
        notes: Lines under the title, at most two.
        sections: Sections, one below the other, with four tiles a row.

    Returns:
        RGB image, as large as its content.
    """
    most = max((len(section.tiles) for section in sections), default=0)
    columns = min(max(most, _NARROWEST), _COLUMNS)
    width = 2 * _MARGIN + columns * TILE + (columns - 1) * _GAP
    rows = [_rows(section, columns) for section in sections]
    height = _HEADER + sum(map(_height, sections, rows)) + _MARGIN
    page = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(page)
    inside = width - 2 * _MARGIN
    write(pen, (_MARGIN, 32), title, size=24, bold=True, anchor="lm", width=inside)
    for number, note in enumerate(notes[:2]):
        place = (_MARGIN, 60 + 20 * number)
        write(pen, place, note, size=15, colour=QUIET, anchor="lm", width=inside)
    y = _HEADER
    for section, lines in zip(sections, rows, strict=True):
        top = y
        if section.heading:
            pen.line((_MARGIN, y + 4, width - _MARGIN, y + 4), fill=LINE)
            place = (_MARGIN, y + _HEADING // 2 + 4)
            write(pen, place, section.heading, size=19, bold=True, anchor="lm", width=inside)
            y += _HEADING
        if not lines:
            write(pen, (_MARGIN, y + 14), section.missing, size=16, colour=QUIET, anchor="lm")
        for line in lines:
            for column, tile in enumerate(line):
                _draw(page, tile, _MARGIN + column * (TILE + _GAP), y)
            y += max(tile.height for tile in line) + _GAP
        y = top + _height(section, lines)
    return page


def _rows(section: Section, columns: int) -> list[Sequence[Tile]]:
    tiles = section.tiles
    return [tiles[start : start + columns] for start in range(0, len(tiles), columns)]


def _height(section: Section, rows: Sequence[Sequence[Tile]]) -> int:
    heading = _HEADING if section.heading else 0
    if not rows:
        return heading + 44
    return heading + sum(max(tile.height for tile in row) + _GAP for row in rows)


def _draw(page: Image.Image, tile: Tile, x: int, y: int) -> None:
    pen = ImageDraw.Draw(page)
    for picture in tile.pictures:
        page.paste(picture, (x, y))
        y += picture.height + 4
    for words in tile.caption:
        y += _LINE
        write(
            *(pen, (x, y - _LINE // 2 + 3), words.text),
            size=17,
            colour=words.colour,
            bold=words.bold,
            anchor="lm",
            width=TILE,
        )
