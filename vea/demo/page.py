"""The demo's page: photos, what they evoke and why, in one file that needs no other."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2

from handler.drawing.sheet import draw_activation, draw_stimuli
from handler.images import decode
from handler.values.prediction import ModelIdentity, Prediction, Refusal

if TYPE_CHECKING:
    from PIL import Image

_SIDE = 420  # longer side of a drawing on the page, in pixels
_REASONS = 3  # names, or places where there are no names, in the line of a photo


@dataclass(frozen=True)
class Card:
    """One photo on the page.

    Attributes:
        name: Name of the file.
        prediction: None for a refused image.
        reasons: One line of text.
        status: HTTP status of TorchServe's answer.
        stimuli: Data URL of the photo with objects and face.
        activation: Data URL of the photo with its heat map.
    """

    name: str
    prediction: Prediction | None
    reasons: str
    status: int
    stimuli: str = ""
    activation: str = ""


def make_card(name: str, encoded: bytes, answer: Prediction | Refusal, status: int) -> Card:
    """Draw one photo's card; ``answer`` must have been made with ``explain=True``."""
    if isinstance(answer, Refusal):
        return Card(name, None, answer.reason, status)
    image = decode(encoded)
    return Card(
        name=name,
        prediction=answer,
        reasons=_reasons(answer),
        status=status,
        stimuli=_data_url(draw_stimuli(image, answer)),
        activation=_data_url(draw_activation(image, answer)),
    )


def write_page(
    target: Path,
    *,
    cards: Sequence[Card],
    model: ModelIdentity,
    positives: int,
    difference: float,
) -> None:
    """Write the page.

    Args:
        target: HTML file to write.
        cards: Cards in the order of the page.
        model: Identity of the archive that made the predictions.
        positives: Number of positive emotions; they come first.
        difference: Largest difference between the two ways of scoring.
    """
    source = resources.files("vea.demo").joinpath("templates/demo.html")
    template = source.read_text(encoding="utf-8")
    page = jinja2.Environment(autoescape=True, trim_blocks=True).from_string(template)
    html = page.render(cards=cards, model=model, positives=positives, difference=difference)
    target.write_text(html, encoding="utf-8")


def _reasons(prediction: Prediction) -> str:
    named, places = prediction.attention_by_name()
    # Detected things stand among the names by the attention that they hold. Where both name the
    # same, the box tells it more exactly than windows do.
    found = {thing.label for thing in prediction.detected or ()}
    names = {name: share for name, share in named.items() if name not in found}
    names |= prediction.attention_by_thing()
    shares = sorted(names.items(), key=lambda item: -item[1])[:_REASONS]
    shares = shares or list(places.items())[:_REASONS]
    words = ", ".join(f"{name} {weight:.0%}" for name, weight in shares)
    count = prediction.face_count
    if count is None:
        return f"attended to {words}" if words else ""
    faces = "no face" if not count else "one face" if count == 1 else f"{count} faces"
    return f"attended to {words}; {faces}" if words else faces


def _data_url(drawing: Image.Image) -> str:
    drawing.thumbnail((_SIDE, _SIDE))
    encoded = io.BytesIO()
    drawing.save(encoded, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(encoded.getvalue()).decode()
