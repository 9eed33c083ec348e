"""`Predictor`: the one way to score images.

Evaluation, TorchServe, batch jobs, the command line and the explanations all call
`Predictor.predict`, so they cannot disagree. An image that cannot be read becomes a `Refusal` in
its place; its neighbours do not notice.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from handler.archive import LoadedArchive, load_archive
from handler.images import ImageLimits, ImageRefused, decode
from handler.network import Response, StimuliAwareNetwork
from handler.response import polarity_log_probabilities
from handler.stimuli.selector import StimuliSelector
from handler.stimuli.stimuli import Stimuli

# On a CPU larger batches fall out of the cache and are slower an image; a GPU wants them large.
_CPU_BATCH, _GPU_BATCH = 8, 64  # the first unless the object source says `cpu_batch`
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class ModelIdentity:
    """Which archive made a prediction."""

    name: str
    version: str
    digest: str


@dataclass(frozen=True)
class Face:
    """The face that was read: box (xyxy, pixels) and detector score."""

    box: Box
    score: float


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
        on_cpu = getattr(self.selector.objects, "cpu_batch", _CPU_BATCH)
        self.batch_size = batch_size or (on_cpu if self.device.type == "cpu" else _GPU_BATCH)

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
            explain: fill `Prediction.activation` too.

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
        faces = _faces(stimuli)
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


def _faces(stimuli: Stimuli) -> list[Face | None]:
    found = stimuli.faces
    rows = zip(found.boxes.tolist(), found.scores.tolist(), found.mask.tolist(), strict=True)
    return [Face(tuple(box), score) if there else None for box, score, there in rows]
