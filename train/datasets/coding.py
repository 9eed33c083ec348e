"""What numbers mean that a list gives as classes.

Data sets count their classes in many orders: alphabetically, as folder loaders do; in the order of
their paper; from 0 or from 1. A guess would train a model on wrong labels without anybody noticing,
so the coding is stated: by ``info.json`` in the data set's folder, as EmoSet has it, or by a file
that the user names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.datasets.files import read_json, read_lines
from train.datasets.labels import own_wheel
from train.datasets.table import DatasetError

NAME = "info.json"
_FORMS = (
    "expected a line for each class, such as '0 amusement' (names alone count from 0), or JSON "
    'that maps numbers to names or names to numbers, such as {"label2idx": {"amusement": 0}}'
)
# Where JSON files keep the names of classes: EmoSet, Hugging Face, torchvision.
_KEYS = (
    *("emotion", "label2idx", "label2id", "class_to_idx", "idx2label", "id2label"),
    *("features", "label", "labels", "class", "classes", "names"),
)
_LINE = re.compile(r"(?P<number>\d+)[\s,;:=]+(?P<name>\S.*)|(?P<first>\S.*?)[\s,;:=]+(?P<last>\d+)")


@dataclass(frozen=True)
class Coding:
    """Names of the classes by number.

    Attributes:
        names: Name of each class, as the file spells it.
        source: Name of the file that states the coding, or words for a published one.
    """

    names: Mapping[int, str]
    source: str

    def describe(self) -> str:
        """The coding in words, such as ``0 amusement, 1 awe``."""
        return ", ".join(f"{number} {name}" for number, name in sorted(self.names.items()))


def read_coding(path: Path) -> Coding:
    """The coding that a file states.

    Args:
        path: JSON file, or text with a line for each class.

    Raises:
        DatasetError: The file cannot be read or states no coding.
    """
    if not path.is_file():
        raise DatasetError(f"there is no file {path} with the names of the classes")
    is_json = path.suffix.lower() == ".json"
    found = _in_json(read_json(path), path) if is_json else _in_lines(path)
    if not found:
        raise DatasetError(f"{path} does not say what the numbers of classes mean: {_FORMS}")
    return Coding(found, path.name)


def find_coding(root: Path) -> Coding | None:
    """The coding that a data set's own ``info.json`` states, if it does.

    Raises:
        DatasetError: The file gives one number to two classes.
    """
    path = root / NAME
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):  # somebody else's file
        return None
    found = _in_json(document, path)
    known = [name for name in found.values() if own_wheel([name]).knows(name)]
    return Coding(found, path.name) if len(known) > 1 else None


def _in_json(document: Any, path: Path) -> dict[int, str]:
    """The first coding in a document; empty if there is none."""
    if isinstance(document, list) and document and all(isinstance(n, str) for n in document):
        return dict(enumerate(document))
    if not isinstance(document, dict) or not document:
        return {}
    if all(isinstance(value, int) for value in document.values()):
        return _by_number([(number, str(name)) for name, number in document.items()], path)
    if all(str(key).isdecimal() and isinstance(name, str) for key, name in document.items()):
        return _by_number([(int(key), name) for key, name in document.items()], path)
    found = (_in_json(document[key], path) for key in _KEYS if key in document)
    return next(filter(None, found), {})


def _in_lines(path: Path) -> dict[int, str]:
    lines = [text for _, text in read_lines(path)]
    matches = [_LINE.fullmatch(text) for text in lines]
    if not any(matches):
        return dict(enumerate(lines))
    pairs = []
    for text, match in zip(lines, matches, strict=True):
        if match:
            number = match["number"] or match["last"]
            pairs.append((int(number), (match["name"] or match["first"]).strip("\"' ")))
        elif text is not lines[0]:  # which may be a header
            raise DatasetError(f"{path} has the line '{text}': {_FORMS}")
    return _by_number(pairs, path)


def _by_number(pairs: list[tuple[int, str]], path: Path) -> dict[int, str]:
    names: dict[int, str] = {}
    for number, name in pairs:
        if names.setdefault(number, name) != name:
            raise DatasetError(f"{path} gives the number {number} to {names[number]} and to {name}")
    return names
