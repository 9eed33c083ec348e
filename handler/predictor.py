"""`Predictor`: the one way to score images.

Evaluation, TorchServe, batch jobs, the command line and the explanations all call
`Predictor.predict`, so they cannot disagree. An image that cannot be read becomes a `Refusal` in
its place; its neighbours do not notice.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from handler.archive import LoadedArchive, load_archive
from handler.images import ImageLimits, ImageRefused, decode
from handler.network import Response, StimuliAwareNetwork
from handler.response import polarity_log_probabilities
from handler.stimuli.faces import FACE_SIDE
from handler.stimuli.selector import SelectorConfig, StimuliSelector
from handler.stimuli.stimuli import Stimuli

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class ModelIdentity:
    """Which archive made a prediction."""

    name: str
    version: str
    digest: str


@dataclass(frozen=True)
class Face:
    """The face stimulus.

    Attributes:
        box: xyxy, pixels.
        score: of the detector; unbounded, higher is surer.
        crop: the very pixels that Expression-Net read, aligned, 48x48 grey bytes row by row; None
            if not asked for, or if the network has no Expression-Net.
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
        label: what it is.
        score: confidence of the label, 0 to 1.
        box: xyxy, pixels.
        attention: its weight among the regions of the image, 0 to 1.
        attribute: how it is ("red", "wooden"); None where the object source does not tell.
    """

    label: str
    score: float
    box: Box
    attention: float
    attribute: str | None = None

    @property
    def name(self) -> str:
        """Attribute and label, as people say it."""
        return f"{self.attribute} {self.label}" if self.attribute else self.label


@dataclass(frozen=True)
class Prediction:
    """What an image evokes.

    Attributes:
        emotion: the most probable one.
        probabilities: of every emotion, in the wheel's order; they sum to 1.
        p_positive: probability of the positive emotions together.
        polarity: ``"positive"`` if ``p_positive`` is at least one half, else ``"negative"``.
        face_count: faces found.
        face: the largest of them.
        objects: the object stimuli, most attended first.
        activation: evidence for ``emotion`` at each place of Global-Net's feature map, rows of
            floats scaled to 0..1; only if asked for.
        width: of the image in pixels, after EXIF rotation.
        height: likewise.
        activation_box: the part of the image that ``activation`` covers, xyxy, pixels; None without
            an activation. It is all of the image, unless Global-Net sees a cut from its centre.
    """

    emotion: str
    probabilities: dict[str, float]
    p_positive: float
    polarity: str
    face_count: int
    face: Face | None
    objects: tuple[AttendedObject, ...]
    activation: tuple[tuple[float, ...], ...] | None
    width: int
    height: int
    activation_box: Box | None = None

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
            "model": {"name": model.name, "version": model.version, "digest": model.digest},
        }
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
            answer["activation"] = self.activation
            answer["face"]["crop"] = _png(face.crop_picture()) if face else None
        return answer


@dataclass(frozen=True)
class Refusal:
    """Why an image got no prediction: HTTP status and one line."""

    code: int
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """The error schema of `vea predict --json` and of the service."""
        return {"error": {"code": self.code, "reason": self.reason}}


class Predictor:
    """Scores images with one archive.

    Args:
        archive: loaded.
        device: where the networks run; faces are always found on the CPU.
        batch_size: images a forward pass; by default what suits the device and the object source.
        limits: what an image may cost.
    """

    def __init__(
        self,
        archive: LoadedArchive,
        *,
        device: str = "cpu",
        batch_size: int | None = None,
        limits: ImageLimits | None = None,
    ) -> None:
        self.model = ModelIdentity(archive.config.name, archive.config.version, archive.digest)
        self.card = archive.card
        self.device = torch.device(device)
        self.limits = limits or ImageLimits()
        self.network: StimuliAwareNetwork = archive.network.to(self.device)
        self.selector: StimuliSelector = archive.selector.to(self.device)
        self.wheel = self.network.wheel
        source = archive.selector.objects
        best = source.cpu_batch if self.device.type == "cpu" else source.gpu_batch
        self.batch_size = batch_size or best

    @classmethod
    def load(
        cls, path: Path | str, *, device: str = "cpu", batch_size: int | None = None
    ) -> Predictor:
        """Read an archive (folder or ``.mar``).

        Raises:
            ArchiveError: there is no archive of this format at ``path``.
        """
        threads = os.cpu_count() or 1
        archive = load_archive(Path(path), face_threads=threads)
        return cls(archive, device=device, batch_size=batch_size)

    def predict(
        self, images: Sequence[bytes], *, explain: bool = False
    ) -> list[Prediction | Refusal]:
        """Score encoded images.

        Args:
            images: encoded, any number.
            explain: fill `Prediction.activation` and `Face.crop`, too.

        Returns:
            One answer for each image, in the same order.
        """
        answers: list[Prediction | Refusal | None] = [None] * len(images)
        pending: list[tuple[int, torch.Tensor]] = []
        for position, data in enumerate(images):
            try:
                pending.append((position, decode(data, self.limits)))
            except ImageRefused as refusal:
                answers[position] = Refusal(refusal.code, refusal.reason)
            # Decoded pictures are the largest thing in memory: keep one batch of them.
            if len(pending) == self.batch_size:
                self._score(pending, answers, explain)
                pending.clear()
        if pending:
            self._score(pending, answers, explain)
        return [answer for answer in answers if answer is not None]

    def _score(
        self,
        batch: Sequence[tuple[int, torch.Tensor]],
        answers: list[Prediction | Refusal | None],
        explain: bool,
    ) -> None:
        images = [image for _, image in batch]
        with torch.inference_mode():
            stimuli = self.selector.select(images).to(self.device)
            response = self.network(stimuli)
            predictions = self._read(images, stimuli, response, explain)
        for (position, _), prediction in zip(batch, predictions, strict=True):
            answers[position] = prediction

    def _read(
        self,
        images: Sequence[torch.Tensor],
        stimuli: Stimuli,
        response: Response,
        explain: bool,
    ) -> list[Prediction]:
        """Tensors -> plain values."""
        log_p = response.log_probabilities.double()
        positive = polarity_log_probabilities(log_p, self.wheel)[:, 0].exp().tolist()
        top = log_p.argmax(dim=1)
        activation = self._activation(response, top) if explain else [None] * len(images)
        probabilities = log_p.exp().tolist()
        objects = self._objects(stimuli, response)
        read = explain and self.network.expression_net is not None
        faces = _faces(stimuli, crops=read)
        counts = stimuli.faces.counts.tolist()
        return [
            Prediction(
                emotion=self.wheel.labels[int(top[i])],
                probabilities=dict(zip(self.wheel.labels, probabilities[i], strict=True)),
                p_positive=positive[i],
                polarity="positive" if positive[i] >= 0.5 else "negative",
                face_count=counts[i],
                face=faces[i],
                objects=objects[i],
                activation=activation[i],
                width=images[i].shape[-1],
                height=images[i].shape[-2],
                activation_box=_seen(images[i], self.selector.config) if activation[i] else None,
            )
            for i in range(len(images))
        ]

    def _objects(self, stimuli: Stimuli, response: Response) -> list[tuple[AttendedObject, ...]]:
        objects = stimuli.objects
        attention = response.attention
        weights = (attention if attention is not None else objects.scores * 0).tolist()
        source = self.selector.objects
        nothing = torch.full_like(objects.labels, -1)
        attributes = nothing if objects.attributes is None else objects.attributes
        listed = []
        for row, mask in enumerate(objects.mask.tolist()):
            found = [
                AttendedObject(
                    label=source.vocabulary[label],
                    score=score,
                    box=tuple(box),
                    attention=weight,
                    attribute=source.attributes[attribute] if attribute >= 0 else None,
                )
                for label, attribute, score, box, weight, real in zip(
                    objects.labels[row].tolist(),
                    attributes[row].tolist(),
                    objects.scores[row].tolist(),
                    objects.boxes[row].tolist(),
                    weights[row],
                    mask,
                    strict=True,
                )
                if real
            ]
            listed.append(tuple(sorted(found, key=lambda item: -item.attention)))
        return listed

    def _activation(
        self, response: Response, emotion: torch.Tensor
    ) -> list[tuple[tuple[float, ...], ...] | None]:
        maps = self.network.activation_map(response, emotion)
        if maps is None:
            return [None] * len(emotion)
        low = maps.amin(dim=(1, 2), keepdim=True)
        span = (maps.amax(dim=(1, 2), keepdim=True) - low).clamp(min=1e-12)
        scaled = ((maps - low) / span).tolist()
        return [tuple(tuple(row) for row in grid) for grid in scaled]


def _faces(stimuli: Stimuli, *, crops: bool) -> list[Face | None]:
    found = stimuli.faces
    rows = zip(found.boxes.tolist(), found.scores.tolist(), found.mask.tolist(), strict=True)
    pixels = found.crops.cpu().numpy() if crops else None
    return [
        Face(tuple(box), score, None if pixels is None else pixels[row].tobytes())
        if there
        else None
        for row, (box, score, there) in enumerate(rows)
    ]


def _seen(image: torch.Tensor, config: SelectorConfig) -> Box:
    """The part of an image (3xHxW) that `fit_colour` lets Global-Net see: xyxy, pixels."""
    height, width = image.shape[-2:]
    if config.fit == "squash":
        return (0.0, 0.0, float(width), float(height))
    side = min(height, width) * config.size / max(config.resize, config.size)
    left, top = (width - side) / 2, (height - side) / 2
    return (left, top, left + side, top + side)


def _png(picture: Image.Image | None) -> str | None:
    """A picture for JSON: base64 of a PNG, some 2 KB for a face."""
    if picture is None:
        return None
    encoded = io.BytesIO()
    picture.save(encoded, "PNG")
    return base64.b64encode(encoded.getvalue()).decode("ascii")
