"""The names of the Visual Genome detector's classes (``SOURCES.md`` says where they come from)."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from train.weights.home import WeightsError

_OBJECTS, _ATTRIBUTES = "visual_genome_objects.txt", "visual_genome_attributes.txt"


def object_names(path: Path | None = None) -> list[str]:
    """Names of the object classes, in order: the 1,600 published ones, or those of a file."""
    return _names(path, _OBJECTS)


def attribute_names(path: Path | None = None) -> list[str]:
    """Names of the attributes, in their order: the 400 published ones, or those of a file."""
    return _names(path, _ATTRIBUTES)


def _names(path: Path | None, shipped: str) -> list[str]:
    """One name a line; of synonyms separated by commas, the first.

    Raises:
        WeightsError: The file cannot be read, or one of its lines is empty.
    """
    if path is None:
        text = (resources.files("train.weights") / shipped).read_text(encoding="utf-8")
    else:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise WeightsError(f"cannot read the vocabulary {path}: {error}") from None
    names = [line.split(",")[0].strip() for line in text.strip().splitlines()]
    for number, name in enumerate(names, start=1):
        if not name:
            raise WeightsError(f"line {number} of the vocabulary {path} is empty: expected a name")
    return names
