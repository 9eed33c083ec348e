"""What is said of an image: `Prediction`, or `Refusal`, and their form as JSON.

The JSON of `vea predict --json`, of the service and of the explanations is `to_dict` of these, so
it is the same everywhere.
"""

from __future__ import annotations

import base64
import io
from dataclasses import asdict, dataclass
from typing import Any

from PIL import Image

from handler.values.places import Box, place_of
from handler.values.runtimes import TORCH
from handler.values.things import DetectedThing, attention_within, in_number

FACE_SIDE = 48  # pixels; side of an aligned face

REFUSAL_KINDS = {400: "empty", 413: "too-large", 415: "not-an-image", 422: "damaged"}
"""By HTTP status: why an image got no prediction, in one word."""


@dataclass(frozen=True)
class ModelIdentity:
    """Which archive made a prediction, with which runtime, and what it looked for.

    Attributes:
        name: Name of the model.
        version: Version of the model.
        digest: SHA-256 (hex) of everything in the archive.
        runtime: Runtime of the backbones, ``"torch"`` or ``"onnx"``.
        faces: Whether faces were looked for.
        detects: Whether the archive has a detector of things, for further reasons.
    """

    name: str
    version: str
    digest: str
    runtime: str = TORCH
    faces: bool = True
    detects: bool = False

    def to_dict(self) -> dict[str, str]:
        """Plain values, for JSON, without what the answer itself tells."""
        values = asdict(self)
        del values["faces"], values["detects"]
        return values


@dataclass(frozen=True)
class Face:
    """The face stimulus.

    Attributes:
        box: Box, xyxy, pixels.
        score: Detector score; unbounded, a higher score is more certain.
        crop: Aligned input pixels of Expression-Net, 48x48 grey bytes row by row; None if not
            requested, or if the network has no Expression-Net.
    """

    box: Box
    score: float
    crop: bytes | None = None

    def crop_picture(self) -> Image.Image | None:
        """``crop`` as a picture, 48x48 grey."""
        if self.crop is None:
            return None
        return Image.frombytes("L", (FACE_SIDE, FACE_SIDE), self.crop)


@dataclass(frozen=True)
class AttendedObject:
    """A region that Semantic-Net looked at.

    Attributes:
        label: Name of the object; None where no name is likely right.
        score: Confidence of the label, or of the likeliest name where there is none, 0 to 1.
        box: Box, xyxy, pixels.
        attention: Weight among the regions of the image, 0 to 1.
        attribute: Attribute such as "red" or "wooden"; None if the object source has no attributes.
    """

    label: str | None
    score: float
    box: Box
    attention: float
    attribute: str | None = None

    @property
    def name(self) -> str | None:
        """Attribute and label, as people say it; None without a label."""
        return f"{self.attribute} {self.label}" if self.attribute and self.label else self.label


@dataclass(frozen=True)
class Prediction:
    """What an image evokes.

    Attributes:
        emotion: Most probable emotion.
        probabilities: Probability of each emotion, in the wheel's order; they sum to 1.
        p_positive: Sum of the probabilities of the positive emotions.
        polarity: ``"positive"`` if ``p_positive`` is at least one half, else ``"negative"``.
        face_count: Number of faces found; None where none were looked for.
        face: Largest face.
        objects: Object stimuli, most attended first.
        activation: Evidence for ``emotion`` at each position of Global-Net's feature map, rows of
            floats scaled to 0..1; None if not requested.
        width: Width of the image in pixels, after EXIF rotation.
        height: Height of the image in pixels, after EXIF rotation.
        activation_box: Part of the image that ``activation`` covers, xyxy, pixels; None without an
            activation. It is the whole image, unless Global-Net sees a crop of its centre.
        embedding: Fused feature v_emo (Eq. 12), the network's last layer before the classifier,
            rounded to half precision; None if not requested.
        detected: Things that a detector found beside the objects, as further reasons, those that
            hold most attention first; None if not requested, or without a detector. They decide
            nothing about the emotion.
    """

    emotion: str
    probabilities: dict[str, float]
    p_positive: float
    polarity: str
    face_count: int | None
    face: Face | None
    objects: tuple[AttendedObject, ...]
    activation: tuple[tuple[float, ...], ...] | None
    width: int
    height: int
    activation_box: Box | None = None
    embedding: tuple[float, ...] | None = None
    detected: tuple[DetectedThing, ...] | None = None

    def words_for(self, item: AttendedObject) -> str:
        """What to call one of the ``objects``: its name, or its place in the image."""
        return item.name or place_of(item.box, width=self.width, height=self.height)

    def attention_by_name(self) -> tuple[dict[str, float], dict[str, float]]:
        """Attention to each name, its objects added up, and to each place without a name.

        Both are sorted, most attended first. A place is no name: what is added up to a name was
        given to objects that have this name.
        """
        names: dict[str, float] = {}
        places: dict[str, float] = {}
        for item in self.objects:
            sums, words = (names if item.name else places), self.words_for(item)
            sums[words] = sums.get(words, 0.0) + item.attention
        first, second = (
            dict(sorted(one.items(), key=lambda pair: -pair[1])) for one in (names, places)
        )
        return first, second

    def attention_by_thing(self) -> dict[str, float]:
        """Attention to the detected things of each kind: that which falls into their boxes.

        The kinds have their number ("2 people"); what several boxes cover counts once. Sorted, most
        attended first.
        """
        kinds: dict[str, list[Box]] = {}
        for thing in self.detected or ():
            kinds.setdefault(thing.label, []).append(thing.box)
        weighed = [(item.box, item.attention) for item in self.objects]
        shares = {
            in_number(label, len(boxes)): attention_within(weighed, boxes)
            for label, boxes in kinds.items()
        }
        return dict(sorted(shares.items(), key=lambda pair: -pair[1]))

    @property
    def polarity_probability(self) -> float:
        """Probability of ``polarity``."""
        return max(self.p_positive, 1.0 - self.p_positive)

    def to_dict(self, model: ModelIdentity, *, explain: bool = False) -> dict[str, Any]:
        """The response schema of `vea predict --json` and of the service."""
        face = self.face
        answer: dict[str, Any] = {
            "emotion": self.emotion,
            "probabilities": self.probabilities,
            "polarity": {"label": self.polarity, "probability": self.polarity_probability},
            "face": {
                "found": face is not None,
                "count": self.face_count,
                "box": list(face.box) if face else None,
                "score": face.score if face else None,
            },
            "image_size": {"width": self.width, "height": self.height},
            "model": model.to_dict(),
        }
        if self.face_count is None:
            del answer["face"]
        if self.embedding is not None:
            answer["embedding"] = list(self.embedding)
        if explain:
            answer["objects"] = [
                {
                    "label": item.label,
                    "attribute": item.attribute,
                    "score": item.score,
                    "box": list(item.box),
                    "attention": item.attention,
                }
                for item in self.objects
            ]
            if self.detected is not None:
                answer["detected"] = [
                    {**asdict(thing), "box": list(thing.box)} for thing in self.detected
                ]
            answer["activation"] = self.activation
            answer["activation_box"] = list(self.activation_box) if self.activation_box else None
            if self.face_count is not None:
                answer["face"]["crop"] = _png(face.crop_picture()) if face else None
        return answer


@dataclass(frozen=True)
class Refusal:
    """Why an image got no prediction.

    Attributes:
        code: HTTP status of this image alone: 400, 413, 415 or 422; see `REFUSAL_KINDS`.
        reason: Explanation in one line.
    """

    code: int
    reason: str

    @property
    def kind(self) -> str:
        """The reason in one word, as parquet rows and metrics spell it."""
        return REFUSAL_KINDS.get(self.code, "refused")

    def to_dict(self) -> dict[str, Any]:
        """The error schema of `vea predict --json` and of the service."""
        return {"error": {"code": self.code, "reason": self.reason}}


EMPTY = Refusal(400, "the image is empty (0 bytes)")


def _png(picture: Image.Image | None) -> str | None:
    """A picture for JSON: base64 of a PNG, some 2 KB for a face."""
    if picture is None:
        return None
    encoded = io.BytesIO()
    picture.save(encoded, "PNG")
    return base64.b64encode(encoded.getvalue()).decode("ascii")
