"""Emotion6 (Peng et al. 2015): 1,980 photos with distributions over six emotions and neutral.

``images/<keyword>/<number>.jpg`` and ``ground_truth.txt``, tab-separated: image, valence, arousal,
and the fractions of anger, disgust, fear, joy, sadness, surprise and neutral. The folder names only
the keyword that found the photo; the label is the most frequent answer. Neutral has no place on the
wheel: photos that are mostly neutral are left out and counted, of the others it is taken out of the
distribution. A copy with ``Emotion6.json`` instead gives ``true_emotion`` as the label, and no
distribution, because in it label and distribution disagree for many photos.
"""

from __future__ import annotations

from pathlib import Path

from handler.values.emotions import EKMAN, Wheel
from train.datasets.files import header_of, number, read_json, read_lines
from train.datasets.labels import fractions
from train.datasets.listing import Listing, note_ties

LOOKED_FOR = "Emotion6 (ground_truth.txt with valence, or Emotion6.json)"

_TEXT = "ground_truth.txt"
_JSON = "Emotion6.json"
_COLUMNS = ("anger", "disgust", "fear", "joy", "sadness", "surprise", "neutral")
_NEUTRAL = "most answers are neutral, which is no emotion of the wheel"


def recognises(root: Path) -> bool:
    """Whether one of the two lists is there."""
    return (root / _JSON).is_file() or _is_ground_truth(root / _TEXT)


def list_images(root: Path, wheel: Wheel | None = None) -> Listing:
    """The photos; ``ground_truth.txt`` is preferred, because it has the distributions."""
    if _is_ground_truth(root / _TEXT):
        return _list_text(root)
    return _list_json(root)


def _list_text(root: Path) -> Listing:
    listing = Listing(f"Emotion6: {_TEXT}", root, EKMAN)
    for line, text in read_lines(root / _TEXT)[1:]:
        cells = text.split()
        votes = [number(cell) for cell in cells[3:]]
        if len(votes) != len(_COLUMNS) or any(vote is None or vote < 0 for vote in votes):
            listing.refuse(f"not {len(_COLUMNS) + 3} columns", f"{_TEXT}, line {line}")
            continue
        by_name = {name: vote or 0.0 for name, vote in zip(_COLUMNS, votes, strict=True)}
        distribution = fractions([by_name[label] for label in EKMAN.labels])
        if distribution is None or by_name["neutral"] > max(by_name[n] for n in EKMAN.labels):
            listing.refuse(_NEUTRAL, cells[0])
        else:
            listing.add_named(
                cells[0],
                [root / "images", root],
                distribution.index(max(distribution)),
                distribution=distribution,
            )
    note_ties(listing)
    return listing


def _list_json(root: Path) -> Listing:
    listing = Listing(f"Emotion6: {_JSON}", root, EKMAN)
    entries = read_json(root / _JSON)
    for name, entry in sorted(entries.items()) if isinstance(entries, dict) else ():
        emotion = str(entry.get("true_emotion", "")) if isinstance(entry, dict) else ""
        if emotion.strip().lower() == "neutral":
            listing.refuse(_NEUTRAL, name)
        elif not EKMAN.knows(emotion):
            listing.refuse(f"no true_emotion of {EKMAN.name}", name)
        else:
            listing.add_named(name, [root, root / "images"], EKMAN.index(emotion))
    return listing


def _is_ground_truth(path: Path) -> bool:
    return path.is_file() and any("valence" in name for name in header_of(path, delimiter="\t"))
