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
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from handler.allocator import keep_freed_memory, return_freed_memory
from handler.archive.loading import LoadedArchive, load_archive
from handler.batch_metrics import BatchMetrics, stage
from handler.folding import fold_batch_norms
from handler.images import ImageRefused, decode
from handler.network import Response, StimuliAwareNetwork
from handler.reading import read_predictions
from handler.stimuli.objects.grid import GridObjects
from handler.stimuli.selector import StimuliSelector, find_objects
from handler.stimuli.stimuli import Stimuli, put, take
from handler.values.limits import ImageLimits
from handler.values.prediction import Prediction, Refusal
from handler.values.runtimes import AUTO


class _Wanted(NamedTuple):
    """What is asked for beside emotions."""

    explanations: bool
    embeddings: bool
    things: bool


class Predictor:
    """Scores images with one archive.

    Args:
        archive: Loaded archive.
        device: Device of the networks; faces are always found on the CPU.
        batch_size: Number of images in a forward pass; by default the best for the device and the
            object source.
        limits: Limits on the size of an image.
        half: Whether the networks compute in half precision on a GPU.

    Attributes:
        rechecked: Number of images so far that the float32 form decided, since the 8-bit form of
            the archive was unsure; 0 where the archive has only one form.
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
        self.precise = archive.precise
        self.rechecked = 0
        fold_batch_norms(archive.network)
        if archive.precise is not None:
            fold_batch_norms(archive.precise.network)
        if isinstance(archive.selector.objects, GridObjects):
            fold_batch_norms(archive.selector.objects)
        self.network: StimuliAwareNetwork = archive.network.to(self.device)
        self.selector: StimuliSelector = archive.selector.to(self.device)
        self.things = archive.things and archive.things.to(self.device)
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
        archive = load_archive(
            Path(path),
            face_threads=threads or os.cpu_count() or 1,
            runtime=runtime,
            device=device,
            faces=faces,
        )
        return_freed_memory()
        keep_freed_memory()
        return cls(archive, device=device, batch_size=batch_size, half=half)

    def predict(
        self,
        images: Sequence[bytes],
        *,
        explain: bool = False,
        embeddings: bool = False,
        detect: bool = False,
        metrics: BatchMetrics | None = None,
    ) -> list[Prediction | Refusal]:
        """Score encoded images.

        Args:
            images: Encoded images, any number.
            explain: Whether to fill `Prediction.activation` and `Face.crop`, and what ``detect``
                fills.
            embeddings: Whether to fill `Prediction.embedding`; takes no second forward pass.
            detect: Whether to fill `Prediction.detected`, if the archive has a detector.
            metrics: Receives the duration of each stage.

        Returns:
            One answer for each image, in the same order.
        """
        decoded = self._decoded(images, metrics)
        return self.predict_decoded(
            decoded, explain=explain, embeddings=embeddings, detect=detect, metrics=metrics
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
        detect: bool = False,
        metrics: BatchMetrics | None = None,
    ) -> list[Prediction | Refusal]:
        """The second half of `predict`.

        Args:
            images: Results of `decode`, any number; at most one batch of them is in memory.
            explain: As for `predict`.
            embeddings: As for `predict`.
            detect: As for `predict`.
            metrics: Receives the duration of each stage.

        Returns:
            One answer for each image, in the same order; refusals are passed through.
        """
        wanted = _Wanted(explain, embeddings, explain or detect)
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
                self._score(pending, answers, wanted, metrics)
                pending.clear()
        if pending:
            self._score(pending, answers, wanted, metrics)
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
        wanted: _Wanted,
        metrics: BatchMetrics | None,
    ) -> None:
        images = [image for _, image in batch]
        with torch.inference_mode():
            with self._precision(), stage(metrics, "select"):
                stimuli = self.selector.select(images).to(self.device)
            with self._precision(), stage(metrics, "network"):
                response = self.network(stimuli)
            unsure = self._unsure(response)
            if unsure:
                with stage(metrics, "recheck"):
                    self._recheck(images, unsure, stimuli, response)
            predictions = self._read(images, stimuli, response, wanted)
            if wanted.things and self.things is not None:
                with stage(metrics, "detect"):
                    predictions = self.things.add(predictions, images)
        for (position, _), prediction in zip(batch, predictions, strict=True):
            answers[position] = prediction

    def _unsure(self, response: Response) -> list[int]:
        """The images whose two most probable emotions are too close for the 8-bit form."""
        if self.precise is None:
            return []
        return self.precise.decides(response.log_probabilities).nonzero().flatten().tolist()

    def _recheck(
        self,
        images: Sequence[torch.Tensor],
        unsure: Sequence[int],
        stimuli: Stimuli,
        response: Response,
    ) -> None:
        """Objects and response of some of the images anew, in float32, put in their places.

        Colour and faces are no backbone's work.
        """
        assert self.precise is not None
        self.rechecked += len(unsure)
        precise, some = self.precise, take(stimuli, unsure)
        objects, feature_map = find_objects(
            precise.objects, precise.shared, [images[row] for row in unsure], some.colour
        )
        again = precise.network(replace(some, objects=objects, feature_map=feature_map))
        put(stimuli.objects, unsure, objects)
        response.put(unsure, again)

    def _precision(self) -> AbstractContextManager[Any]:
        if not self.half:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.float16)

    def _read(
        self,
        images: Sequence[torch.Tensor],
        stimuli: Stimuli,
        response: Response,
        wanted: _Wanted,
    ) -> list[Prediction]:
        return read_predictions(
            images,
            stimuli,
            response,
            network=self.network,
            selector=self.selector,
            explain=wanted.explanations,
            embed=wanted.embeddings,
        )
