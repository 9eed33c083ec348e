"""The answers that the pages show are those that the shipped model gives."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pages import REPOSITORY, fenced

from handler.predictor import Predictor
from tests.shipped import ARCHIVE

PHOTO = "vea/photos/astronaut.jpg"


@pytest.fixture(scope="module")
def given() -> dict[str, Any]:
    predictor = Predictor.load(ARCHIVE)
    [answer] = predictor.predict([(REPOSITORY / PHOTO).read_bytes()])
    document: dict[str, Any] = answer.to_dict(predictor.model)
    return {"image": PHOTO, **document}


def rounded(shown: Any, given: Any) -> bool:
    """Whether a shown document is the given one, rounded and without the digest."""
    if isinstance(shown, dict):
        return set(shown) <= set(given) and all(
            name == "digest" or rounded(value, given[name]) for name, value in shown.items()
        )
    if isinstance(shown, list):
        pairs = zip(shown, given, strict=True)
        return all(rounded(one, other) for one, other in pairs)
    if isinstance(shown, float):
        decimals = len(str(shown).partition(".")[2])
        return abs(shown - given) <= 0.51 * 10**-decimals
    return bool(shown == given)


@pytest.mark.parametrize("page", ["README.md", "docs/reference/prediction.md"])
def test_the_document_that_is_shown_is_the_models_answer(page: str, given: dict[str, Any]) -> None:
    found = fenced((REPOSITORY / page).read_text())
    blocks = [text for language, text in found if language == "json"]
    shown = json.loads(blocks[0])
    assert {"emotion", "probabilities", "polarity", "face", "model"} <= set(shown)
    assert rounded(shown, given), given


def test_the_row_that_is_shown_is_the_models_answer(given: dict[str, Any]) -> None:
    lines = (REPOSITORY / "README.md").read_text().splitlines()
    [row] = [line for line in lines if line.startswith("|") and PHOTO in line]
    cells = [cell.strip(" `") for cell in row.strip("|").split("|")]
    positive = sum(list(given["probabilities"].values())[:4])
    assert cells == [
        "0",
        PHOTO,
        "ok",
        given["emotion"],
        f"{given['probabilities']['excitement']:.4f}",
        given["polarity"]["label"],
        f"{positive:.4f}",
        str(given["face"]["count"]),
        given["model"]["version"],
    ]
