"""Which files below a folder are photos, and which are left out and why.

One rule for every command that takes a folder: sub-folders are searched, hidden files and folders
are not, and a photo is known by the ending of its name or else by its first bytes. Whoever asks is
told how many files were left out for each reason, so that no photo is missed in silence. Nothing
that runs inside a server imports this module.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from handler.values.limits import SUFFIXES

HIDDEN, NOT_AN_IMAGE, LINK, NOT_A_FILE = "hidden", "not-an-image", "link-to-folder", "not-a-file"
_WORDS = {
    NOT_AN_IMAGE: "no image",
    HIDDEN: "hidden or in a hidden folder",
    LINK: "link to a folder",
    NOT_A_FILE: "neither file nor folder",
}
# Thumbnails of a storage system, and what macOS puts into zip files.
_SYSTEM_FOLDERS = frozenset({"@eaDir", "__MACOSX"})
_HEAD = 32  # bytes that tell the format of a file
# TIFF, BMP and PNM are known by their endings alone: what starts like TIFF is mostly a raw photo,
# and the others start like any text.
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")
_BRANDS = frozenset({b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"})


def photos_below(folder: str, left_out: Counter[str]) -> Iterator[str]:
    """Photos below a folder, in the order that their names would have as keys of S3.

    Args:
        folder: Local folder. Links to folders in it are not followed, since they may lead back.
        left_out: Number of files left out for each reason; it is counted up.

    Yields:
        The path of each photo, beginning with ``folder``.

    Raises:
        OSError: A folder cannot be listed; ``filename`` is its path.
    """
    with os.scandir(folder) as entries:
        found = [
            (e.name, e.is_dir(follow_symlinks=False), e.is_dir(), e.is_file()) for e in entries
        ]
    # With its slash a folder takes the place among the files that its keys would have on S3.
    found.sort(key=lambda item: os.fsencode(f"{item[0]}/" if item[1] else item[0]))
    for name, is_folder, leads_to_folder, is_file in found:
        path = os.path.join(folder, name)
        if _is_hidden(name):
            left_out[HIDDEN] += _files_in(path) if is_folder else 1
        elif is_folder:
            yield from photos_below(path, left_out)
        elif leads_to_folder:
            left_out[LINK] += 1
        elif not is_file:
            left_out[NOT_A_FILE] += 1
        elif is_named_like_a_photo(name) or starts_like_a_photo(_head_of(path)):
            yield path
        else:
            left_out[NOT_AN_IMAGE] += 1


def reason_to_leave_out(name: str) -> str | None:
    """Why a name is left out that stands for an object whose content is not looked at.

    Args:
        name: Path relative to the folder that was named, with slashes.

    Returns:
        The reason, or None for a photo.
    """
    if any(_is_hidden(part) for part in name.split("/")):
        return HIDDEN
    return None if is_named_like_a_photo(name) else NOT_AN_IMAGE


def is_named_like_a_photo(name: str) -> bool:
    """Whether a file's name ends like those of photos."""
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def starts_like_a_photo(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a JPEG, PNG, GIF, WebP, AVIF or HEIC file.

    Args:
        head: First 32 bytes of the file, or more.
    """
    if head.startswith(b"RIFF"):
        return head[8:12] == b"WEBP"
    if head[4:8] == b"ftyp":
        return head[8:12] in _BRANDS
    return head.startswith(_SIGNATURES)


def describe(left_out: Mapping[str, int]) -> str:
    """The counts in words, such as ``3 files left out (no image: 2, link to a folder: 1)``."""
    total = sum(left_out.values())
    parts = [
        f"{words}: {left_out[reason]}" for reason, words in _WORDS.items() if left_out.get(reason)
    ]
    return f"{total} file{'s' if total != 1 else ''} left out ({', '.join(parts)})"


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in _SYSTEM_FOLDERS


def _files_in(folder: str) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


def _head_of(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_HEAD)
    except OSError:
        return b""
