"""`Predictor`: the one way to score images.

Evaluation, TorchServe, the command line and the explanations all call `Predictor.predict`, so their
results agree. Batch jobs call its two halves, `Predictor.decode` in threads and
`Predictor.predict_decoded`. An image that cannot be decoded yields a `Refusal` in its place and
does not affect the other images.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from handler.allocator import keep_freed_memory
from handler.archive.loading import LoadedArchive, load_archive
from handler.attention import attended_objects
from handler.batch_metrics import BatchMetrics, stage
from handler.folding import fold_batch_norms
from handler.images import ImageRefused, decode
from handler.network import Response, StimuliAwareNetwork
from handler.response import polarity_log_probabilities
from handler.stimuli.objects.grid import GridObjects
from handler.stimuli.selector import StimuliSelector, colour_box
from handler.stimuli.stimuli import Stimuli
from handler.values.limits import ImageLimits
from handler.values.prediction import Face, Prediction, Refusal
from handler.values.runtimes import AUTO


class Predictor:
    """Scores images with one archive.

    Args:
        archive: Loaded archive.
        device: Device of the networks; faces are always found on the CPU.
        batch_size: Number of images in a forward pass; by default the best for the device and the
            object source.
        limits: Limits on the size of an image.
        half: Whether the networks compute in half precision on a GPU.
    """

    def __init__(
        self,
        archive: LoadedArchive,
        *,
        device: str = "cpu",
        batch_size: int | None = None,
        limits: ImageLimits | None = None,
        half: bool = False,
    ) -> None:
        self.model = archive.identity
        self.card = archive.card
        self.device = torch.device(device)
        self.limits = limits or ImageLimits()
        fold_batch_norms(archive.network)
        if isinstance(archive.selector.objects, GridObjects):
            fold_batch_norms(archive.selector.objects)
        self.network: StimuliAwareNetwork = archive.network.to(self.device)
        self.selector: StimuliSelector = archive.selector.to(self.device)
        self.wheel = self.network.wheel
        source = archive.selector.objects
        on_cpu = self.device.type == "cpu"
        self.batch_size = batch_size or (source.cpu_batch if on_cpu else source.gpu_batch)
        self.half = half and self.device.type == "cuda"

    @classmethod
    def load(
        cls,
        path: Path | str | None = None,
        *,
        device: str = "cpu",
        batch_size: int | None = None,
        threads: int | None = None,
        half: bool = False,
        runtime: str = AUTO,
        faces: bool = True,
    ) -> Predictor:
        """Read an archive (folder or ``.mar``).

        The process then keeps some freed memory; see `handler.allocator`.

        Args:
            path: Path of the archive; by default the archive that is shipped with the program.
            device: Device of the networks.
            batch_size: Number of images in a forward pass.
            threads: Number of threads that search for faces; one per processor by default.
            half: Whether the networks compute in half precision on a GPU.
            runtime: Requested runtime of the backbones; see `handler.values.runtimes`.
            faces: Whether faces are looked for, if the model does so at all.

        Raises:
            ArchiveError: There is no archive of this format at ``path``.
            RuntimeUnavailable: The requested runtime cannot run this archive here.
        """
        if path is None:
            # Imported on demand: this package exists only where the program is installed.
            from model_store import shipped_archive  # noqa: PLC0415

            path = shipped_archive()
        keep_freed_memory()
        archive = load_archive(
            Path(path),
            face_threads=threads or os.cpu_count() or 1,
            runtime=runtime,
            device=device,
            faces=faces,
        )
        return cls(archive, device=device, batch_size=batch_size, half=half)

    def predict(
        self,
        images: Sequence[bytes],
        *,
        explain: bool = False,
        embeddings: bool = False,
        metrics: BatchMetrics | None = None,
    ) -> list[Prediction | Refusal]:
        """Score encoded images.

        Args:
            images: Encoded images, any number.
            explain: Whether to fill `Prediction.activation` and `Face.crop`.
            embeddings: Whether to fill `Prediction.embedding`; takes no second forward pass.
            metrics: Receives the duration of each stage.

        Returns:
            One answer for each image, in the same order.
        """
        decoded = self._decoded(images, metrics)
        return self.predict_decoded(
            decoded, explain=explain, embeddings=embeddings, metrics=metrics
        )

    def decode(self, data: bytes) -> torch.Tensor | Refusal:
        """The first half of `predict`; thread-safe.

        Args:
            data: Encoded image.

        Returns:
            Pixels, uint8 of shape 3xHxW, or the reason why the image is refused.
        """
        try:
            return decode(data, self.limits)
        except ImageRefused as refusal:
            return Refusal(refusal.code, refusal.reason)

    def predict_decoded(
        self,
        images: Iterable[torch.Tensor | Refusal],
        *,
        explain: bool = False,
        embeddings: bool = False,
        metrics: BatchMetrics | None = None,
    ) -> list[Prediction | Refusal]:
        """The second half of `predict`.

        Args:
            images: Results of `decode`, any number; at most one batch of them is in memory.
            explain: Whether to fill `Prediction.activation` and `Face.crop`.
            embeddings: Whether to fill `Prediction.embedding`.
            metrics: Receives the duration of each stage.

        Returns:
            One answer for each image, in the same order; refusals are passed through.
        """
        answers: list[Prediction | Refusal | None] = []
        pending: list[tuple[int, torch.Tensor]] = []
        for position, image in enumerate(images):
            answers.append(image if isinstance(image, Refusal) else None)
            if isinstance(image, torch.Tensor):
                pending.append((position, image))
            # A batch ends early when its pixels reach the limit of one image, so that memory is
            # bounded whatever clients send.
            pixels = sum(one.shape[-1] * one.shape[-2] for _, one in pending)
            if len(pending) == self.batch_size or pixels >= self.limits.max_pixels:
                self._score(pending, answers, explain, embeddings, metrics)
                pending.clear()
        if pending:
            self._score(pending, answers, explain, embeddings, metrics)
        return [answer for answer in answers if answer is not None]

    def _decoded(
        self, images: Sequence[bytes], metrics: BatchMetrics | None
    ) -> Iterator[torch.Tensor | Refusal]:
        def decode_one(data: bytes) -> torch.Tensor | Refusal:
            with stage(metrics, "decode"):
                return self.decode(data)

        # Lazily: decoded pictures are the largest thing in memory.
        yield from map(decode_one, images)

    def _score(
        self,
        batch: Sequence[tuple[int, torch.Tensor]],
        answers: list[Prediction | Refusal | None],
        explain: bool,
        embed: bool,
        metrics: BatchMetrics | None,
    ) -> None:
        images = [image for _, image in batch]
        with torch.inference_mode():
            with self._precision(), stage(metrics, "select"):
                stimuli = self.selector.select(images).to(self.device)
            with self._precision(), stage(metrics, "network"):
                response = self.network(stimuli)
            predictions = self._read(images, stimuli, response, explain, embed)
        for (position, _), prediction in zip(batch, predictions, strict=True):
            answers[position] = prediction

    def _precision(self) -> AbstractContextManager[Any]:
        if not self.half:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.float16)

    def _read(
        self,
        images: Sequence[torch.Tensor],
        stimuli: Stimuli,
        response: Response,
        explain: bool,
        embed: bool,
    ) -> list[Prediction]:
        """Tensors -> plain values."""
        log_p = response.log_probabilities.double()
        positive = polarity_log_probabilities(log_p, self.wheel)[:, 0].exp().tolist()
        top = log_p.argmax(dim=1)
        activation = self._activation(response, top) if explain else [None] * len(images)
        probabilities = log_p.exp().tolist()
        objects = attended_objects(stimuli.objects, response.attention, self.selector.objects)
        embeddings = _fused(response) if embed else [None] * len(images)
        faces = _faces(stimuli, crops=explain and self.network.expression_net is not None)
        counts = stimuli.faces.counts.tolist()
        boxes = [colour_box(image, self.selector.config) for image in images]
        return [
            Prediction(
                emotion=self.wheel.labels[int(top[i])],
                probabilities=dict(zip(self.wheel.labels, probabilities[i], strict=True)),
                p_positive=positive[i],
                polarity="positive" if positive[i] >= 0.5 else "negative",
                face_count=counts[i] if self.model.faces else None,
                face=faces[i],
                objects=objects[i],
                activation=activation[i],
                width=images[i].shape[-1],
                height=images[i].shape[-2],
                activation_box=boxes[i] if activation[i] else None,
                embedding=embeddings[i],
            )
            for i in range(len(images))
        ]

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


def _fused(response: Response) -> list[tuple[float, ...]]:
    """v_emo of each image (Eq. 12), rounded to half precision."""
    # A value beyond what half precision holds is its largest value rather than infinity.
    most = torch.finfo(torch.float16).max
    fused = torch.cat(response.features, dim=1).clamp(-most, most).to(torch.float16)
    return [tuple(row) for row in fused.tolist()]


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
