"""Further reasons beside what the network looked at: things that a detector names.

Semantic-Net weighs windows of the picture. A window's name comes from ImageNet, which has no
people; NanoDet knows people. Its boxes go into no network: they are told beside the windows, with
the part of the windows' attention that falls into each, and change nothing else of a prediction
(docs/research/detected-objects.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from safetensors.torch import load
from torch import nn

from handler.stimuli.objects.light import LightObjects
from handler.values.prediction import Prediction
from handler.values.things import DetectedThing, attention_within


class ThingDetector:
    """The detector of an archive; it is built when it is first asked, since most never ask.

    Args:
        settings: ``reasons`` of the archive's configuration.
        weights: Contents of the safetensors file with the weights of the detector.
        weights_name: Name of that file.
        graph: Compiled network of the detector, the contents of an ONNX file, which can refer to
            that file; without it torch computes.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        weights: bytes,
        weights_name: str,
        graph: bytes | None = None,
    ) -> None:
        self._settings = {key: value for key, value in settings.items() if key != "source"}
        self._weights = {weights_name: weights}
        self._graph = graph
        self._device = torch.device("cpu")

    def to(self, device: torch.device) -> ThingDetector:
        """The same detector, which computes on ``device``; only before it is first asked."""
        self._device = device
        return self

    @cached_property
    def source(self) -> LightObjects:
        """The detector itself."""
        source = LightObjects(**self._settings, compiled=self._compiled())
        if self._graph is None:
            (weights,) = self._weights.values()
            source.load_state_dict(load(weights))
        return source.to(self._device)

    def _compiled(self) -> nn.Module | None:
        if self._graph is None:
            return None
        # Imported on demand: whoever uses torch need not have it.
        from handler.onnx_runtime import OnnxTrunk, open_graph  # noqa: PLC0415

        threads = torch.get_num_threads()
        return OnnxTrunk(open_graph(self._graph, threads, weights=self._weights))

    def add(
        self, predictions: Sequence[Prediction], images: Sequence[torch.Tensor]
    ) -> list[Prediction]:
        """The predictions of images (uint8, 3xHxW, any sizes), with `Prediction.detected`."""
        return [
            replace(prediction, detected=_weighed(prediction, found))
            for prediction, found in zip(predictions, self.source.named(images), strict=True)
        ]


def _weighed(
    prediction: Prediction, found: Sequence[tuple[str, float, tuple[float, float, float, float]]]
) -> tuple[DetectedThing, ...]:
    weighed = [(item.box, item.attention) for item in prediction.objects]
    things = [
        DetectedThing(label, score, box, attention_within(weighed, [box]))
        for label, score, box in found
    ]
    return tuple(sorted(things, key=lambda thing: -thing.attention))
