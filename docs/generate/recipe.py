"""The page of recipes, from the classes that hold their values and the files that ship."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import griffe

from docs.generate.program import (
    EXPRESSION_RECIPE,
    OBJECT_SOURCES,
    RECIPE_PARTS,
    RECIPES,
    ROOT,
    wheel,
)

_ABOUT = """# Recipes

A recipe is a YAML file with everything that decides what a training run produces.
`vea train --recipe NAME` takes the name of a recipe that ships with the program or the path of your
own file, and `--set training.epochs=6` changes one value. Values that a recipe leaves out have the
default given here.
"""


def page() -> str:
    """The page."""
    parts = [_ABOUT]
    for key, path, explained in RECIPE_PARTS:
        title = f"## `{key}`" if key else "## Top level"
        parts.append(f"{title}\n\n{_table(path, explained)}")
    parts.append(
        "## `selector.objects`\n\n`source` names the object source; the other keys are its "
        "settings. [Stimuli and their sources](../concepts/stimuli-sources.md) compares the "
        "sources.\n"
    )
    for source, path in OBJECT_SOURCES:
        parts.append(f"### `source: {source}`\n\n{_parameters(path)}")
    parts.append(
        "## Pre-training of Expression-Net\n\nA recipe with `kind: expression` pre-trains "
        f"Expression-Net on FER2013. It has these values:\n\n{_table(EXPRESSION_RECIPE, None)}"
    )
    parts.append("## Recipes that ship with the program\n")
    for file in sorted(RECIPES.glob("*.yaml")):
        parts.append(f"### `{file.stem}`\n\n```yaml\n{file.read_text().rstrip()}\n```\n")
    return "\n".join(parts)


@cache
def _object(path: str) -> Any:
    found: Any = griffe.load(path, search_paths=[str(ROOT)], docstring_parser="google")
    return found.final_target if found.is_alias else found


def _described(path: str) -> dict[str, str]:
    """What a docstring says of each attribute and parameter, in one line."""
    docstring = _object(path).docstring
    words: dict[str, str] = {}
    for section in docstring.parsed if docstring else ():
        if section.kind.value in ("attributes", "parameters"):
            words |= {item.name: _line(item.description) for item in section.value}
    return words


def _table(path: str, explained: str | None) -> str:
    words = _described(path) | (_described(explained) if explained else {})
    rows = [
        (name, str(member.annotation), _default(member.value), words.get(name, ""))
        for name, member in _object(path).members.items()
        if member.is_attribute and member.annotation is not None and "property" not in member.labels
    ]
    return _rows(rows, path)


def _parameters(path: str) -> str:
    words = _described(path)
    rows = [
        (item.name, str(item.annotation or ""), _default(item.default), words.get(item.name, ""))
        for item in _object(path).members["__init__"].parameters
        if item.name not in ("self", "compiled")  # a recipe does not name networks
    ]
    return _rows(rows, path)


def _rows(rows: list[tuple[str, str, str, str]], path: str) -> str:
    for name, _, _, words in rows:
        if not words:
            raise SystemExit(f"{path}: the docstring says nothing about '{name}'")
    head = "| key | type | default | meaning |\n|---|---|---|---|\n"
    lines = []
    for name, kind, default, words in rows:
        shown = default if default in ("required", "") else f"`{default}`"
        cells = [f"`{name}`", *(cell.replace("|", "\\|") for cell in (kind, shown, words))]
        lines.append(f"| {' | '.join(cells)} |\n")
    return head + "".join(lines)


def _default(value: Any) -> str:
    """A default as it stands in YAML; empty where it is a mapping with a table of its own."""
    if value is None:
        return "required"
    text = str(value).strip("'\"")
    if text == "emotions.MIKELS.name":
        return str(wheel().name)
    if "default_factory" in text or text == "UNNAMED":
        return ""
    text = re.sub(r"^\((.*)\)$", r"[\1]", text).replace("[]", "none")
    return {"True": "true", "False": "false", "None": "null", "none": ""}.get(text, text)


def _line(text: str) -> str:
    words = " ".join(text.split()).replace("``", "`")
    return words[:1].upper() + words[1:]
