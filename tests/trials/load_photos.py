"""Photos of the load trial, good and damaged, and what must be said of them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from handler.predictor import Predictor
from handler.values.prediction import Prediction
from vea.serving.smoke_test import bundled_photos

SAME = 1e-4
_BROKEN = "broken.jpg"


@dataclass(frozen=True)
class Expected:
    """The right answers of each archive.

    Attributes:
        photos: name and bytes of each.
        by_digest: of each archive, the probabilities for each photo's name.
        versions: of each archive.
    """

    photos: Sequence[tuple[str, bytes]]
    by_digest: dict[str, dict[str, dict[str, float]]]
    versions: dict[str, str]

    def difference(self, name: str, answer: dict[str, Any]) -> str | None:
        """What is wrong with an answer; None if it is right."""
        model = answer["model"]
        if self.versions.get(model["digest"]) != model["version"]:
            return f"an unknown archive answered: {model}"
        known = self.by_digest[model["digest"]][name]
        told = answer["probabilities"]
        if set(told) != set(known):
            return f"other emotions: {sorted(told)}"
        off = max(abs(told[label] - known[label]) for label in known)
        return f"probabilities are off by {off:.6f}" if off > SAME else None


def good_photos() -> list[tuple[str, bytes]]:
    """The bundled photos, as they are, and smaller and in other formats."""
    photos: list[tuple[str, bytes]] = []
    for place in bundled_photos():
        if place.name == _BROKEN:
            continue
        data = place.read_bytes()
        photos.append((place.name, data))
        picture = Image.open(io.BytesIO(data)).convert("RGB")
        for kind, side in (("PNG", 160), ("WEBP", 320), ("BMP", 96)):
            small = picture.copy()
            small.thumbnail((side, side))
            encoded = io.BytesIO()
            small.save(encoded, kind)
            photos.append((f"{place.stem}-{side}.{kind.lower()}", encoded.getvalue()))
    return photos


def damaged() -> list[tuple[str, bytes]]:
    """What must be refused."""
    photo = next(place for place in bundled_photos() if place.name == "clock.jpg").read_bytes()
    broken = next(place for place in bundled_photos() if place.name == _BROKEN).read_bytes()
    return [
        ("cut", photo[: len(photo) // 3]),
        ("broken", broken),
        ("empty", b""),
        ("page", b"<html><body>not found</body></html>"),
        ("noise", bytes(range(256)) * 40),
    ]


def expected_answers(
    predictors: Sequence[Predictor], photos: Sequence[tuple[str, bytes]]
) -> Expected:
    """What each archive says of each photo, in this process.

    Raises:
        ValueError: an archive refuses a photo, or two archives answer alike.
    """
    by_digest: dict[str, dict[str, dict[str, float]]] = {}
    for predictor in predictors:
        answers = predictor.predict([data for _, data in photos])
        told = {}
        for (name, _), answer in zip(photos, answers, strict=True):
            if not isinstance(answer, Prediction):
                raise ValueError(f"{name} is refused: {answer}")
            told[name] = answer.probabilities
        by_digest[predictor.model.digest] = told
    first, second = by_digest.values()
    alike = [
        name
        for name, known in first.items()
        if max(abs(known[label] - second[name][label]) for label in known) < 10 * SAME
    ]
    if alike:
        raise ValueError(f"both archives say the same of {alike[0]}: nothing could be told apart")
    return Expected(photos, by_digest, {p.model.digest: p.model.version for p in predictors})
