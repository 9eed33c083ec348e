"""Emotion wheels: which emotions exist, in which order, and which of them are positive.

Labels are ordered positive first, because the polarity of a prediction is the sum of the two
parts of its probability vector (Eq. 14 and 15; the equations overlap at C/2, we read the parts as
[0, P) and [P, C), where P is the number of positive emotions, C/2 on Mikels' wheel). Aliases, as
data sets spell them, are resolved here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

_ALIASES = {
    "amus": "amusement",
    "amuse": "amusement",
    "amused": "amusement",
    "angr": "anger",
    "angry": "anger",
    "cont": "contentment",
    "content": "contentment",
    "disg": "disgust",
    "disgusted": "disgust",
    "exci": "excitement",
    "excit": "excitement",
    "excite": "excitement",
    "excited": "excitement",
    "scared": "fear",
    "fearful": "fear",
    "sad": "sadness",
    "sadn": "sadness",
    "happy": "joy",
    "happiness": "joy",
    "surprised": "surprise",
    "pos": "positive",
    "neg": "negative",
}


@dataclass(frozen=True)
class Wheel:
    """An ordered set of emotions, the positive ones first.

    Attributes:
        name: Identifier in archives and recipes.
        labels: Canonical emotion names, positive emotions first.
        positives: Number of positive emotions in ``labels``.
    """

    name: str
    labels: tuple[str, ...]
    positives: int

    def __len__(self) -> int:
        return len(self.labels)

    def index(self, spelling: str) -> int:
        """Position of an emotion, in any case and under any known alias.

        Raises:
            ValueError: The spelling is not that of an emotion of this wheel.
        """
        key = spelling.strip().lower()
        for candidate in (key, _ALIASES.get(key, key)):
            if candidate in self.labels:
                return self.labels.index(candidate)
        raise ValueError(
            f"'{spelling}' is not an emotion of the wheel '{self.name}': "
            f"expected one of {', '.join(self.labels)}"
        )

    def knows(self, spelling: str) -> bool:
        """Whether ``spelling`` names an emotion of this wheel."""
        try:
            self.index(spelling)
        except ValueError:
            return False
        return True

    def polarity(self, index: int) -> str:
        """``"positive"`` or ``"negative"`` for the emotion at ``index``."""
        return "positive" if index < self.positives else "negative"


MIKELS = Wheel(
    name="mikels-8",
    labels=(
        "amusement",
        "awe",
        "contentment",
        "excitement",
        "anger",
        "disgust",
        "fear",
        "sadness",
    ),
    positives=4,
)
EKMAN = Wheel(
    name="ekman-6",
    labels=("joy", "surprise", "anger", "disgust", "fear", "sadness"),
    positives=2,
)
POLARITY = Wheel(name="polarity-2", labels=("positive", "negative"), positives=1)

# What a face shows, in the order of FER2013's labels. Not a wheel: an expression is no evoked
# emotion, and neutral has no polarity.
EXPRESSIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")

WHEELS = (MIKELS, EKMAN, POLARITY)
_WHEELS = {wheel.name: wheel for wheel in WHEELS}


def wheel(name: str) -> Wheel:
    """The wheel called ``name``.

    Raises:
        ValueError: There is no such wheel.
    """
    try:
        return _WHEELS[name]
    except KeyError:
        known = ", ".join(sorted(_WHEELS))
        raise ValueError(f"unknown wheel '{name}': expected one of {known}") from None


def wheel_of(labels: tuple[str, ...]) -> Wheel:
    """The wheel with exactly these labels.

    Raises:
        ValueError: There is no such wheel.
    """
    for known in _WHEELS.values():
        if known.labels == labels:
            return known
    raise ValueError(f"no known wheel has the emotions {', '.join(labels)}")


def is_positive(label: str) -> bool:
    """Whether an emotion, by its canonical name, is a positive one."""
    return any(label in wheel.labels[: wheel.positives] for wheel in _WHEELS.values())


def expression_index(spelling: str) -> int:
    """Position of a facial expression in `EXPRESSIONS`, in any case and under any known alias.

    Raises:
        ValueError: The spelling is not that of an expression.
    """
    key = _canonical(spelling)
    for index, expression in enumerate(EXPRESSIONS):
        if key == _canonical(expression):
            return index
    raise ValueError(f"'{spelling}' is not an expression: expected one of {', '.join(EXPRESSIONS)}")


def _canonical(spelling: str) -> str:
    key = spelling.strip().lower()
    return _ALIASES.get(key, key)
