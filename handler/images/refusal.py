"""The refusal of an image, and the names of kinds of data that are recognised but not read."""

from __future__ import annotations

# How files of kinds that are told from their first bytes start.
_STARTS = (
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"PK\x03\x04", "a ZIP archive (or an office document)"),
    (b"8BPS", "a Photoshop document"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"\0\0\x01\0", "a Windows icon"),
    (b"FUJIFILMCCD-RAW", "a camera's raw file"),
    (b"IIRO", "a camera's raw file"),
    (b"IIU\0", "a camera's raw file"),
    (b"\x1aE\xdf\xa3", "a video"),
)


class ImageRefused(Exception):
    """An image that gets no prediction.

    Attributes:
        code: HTTP status for this image alone: 400 empty, 413 too large, 415 not an image of a
            kind that is read, 422 an image that cannot be decoded.
        reason: One line for people.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def damaged(file_format: str, detail: str) -> ImageRefused:
    """A 422 for an image whose pixels are not all there."""
    return ImageRefused(422, f"the {file_format} image is damaged or truncated: {detail}")


def unsupported(detail: str) -> ImageRefused:
    """A 415 for an image that may well be whole, of a kind that is not read."""
    return ImageRefused(415, f"{detail}; this kind is not supported")


def one_line(error: Exception) -> str:
    """The first line of an error's text, or its type where it has none."""
    text = str(error).strip().splitlines()
    return text[0][:200] if text else type(error).__name__


def what_it_is(data: bytes) -> str | None:
    """What data that is no image of a readable format is, if its first bytes tell."""
    start = data[:256].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<svg")):
        return "markup (HTML, XML or SVG)"
    for beginning, name in _STARTS:
        if data.startswith(beginning):
            return name
    if data[4:8] == b"ftyp":
        if data[8:12] == b"crx ":
            return "a camera's raw file"
        return "a video"
    return None
