"""Tensors -> plain values: what the networks say about a batch becomes `Prediction`s."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from handler.attention import attended_objects
from handler.network import Response, StimuliAwareNetwork
from handler.response import polarity_log_probabilities
from handler.stimuli.selector import StimuliSelector, colour_box
from handler.stimuli.stimuli import Faces, Stimuli
from handler.values.configs import NO_FACES
from handler.values.prediction import Face, Prediction

_Map = tuple[tuple[float, ...], ...]


def read_predictions(
    images: Sequence[torch.Tensor],
    stimuli: Stimuli,
    response: Response,
    *,
    network: StimuliAwareNetwork,
    selector: StimuliSelector,
    explain: bool,
    embed: bool,
) -> list[Prediction]:
    """The predictions of B images.

    Args:
        images: Images as decoded, uint8, each 3xHxW.
        stimuli: Stimuli of the images.
        response: Response of the network to the stimuli.
        network: Network that responded.
        selector: Selector of the stimuli.
        explain: Whether to fill `Prediction.activation` and `Face.crop`.
        embed: Whether to fill `Prediction.embedding`.
    """
    wheel = network.wheel
    log_p = response.log_probabilities.double()
    positive = polarity_log_probabilities(log_p, wheel)[:, 0].exp().tolist()
    top = log_p.argmax(dim=1)
    activation = _activation(network, response, top) if explain else [None] * len(images)
    probabilities = log_p.exp().tolist()
    objects = attended_objects(stimuli.objects, response.attention, selector.objects)
    embeddings = _fused(response) if embed else [None] * len(images)
    faces = _faces(stimuli.faces, crops=explain and network.expression_net is not None)
    counts = stimuli.faces.counts.tolist()
    searched = selector.config.faces.backend != NO_FACES
    boxes = [colour_box(image, selector.config) for image in images]
    return [
        Prediction(
            emotion=wheel.labels[int(top[i])],
            probabilities=dict(zip(wheel.labels, probabilities[i], strict=True)),
            p_positive=positive[i],
            polarity="positive" if positive[i] >= 0.5 else "negative",
            face_count=counts[i] if searched else None,
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
    network: StimuliAwareNetwork, response: Response, emotion: torch.Tensor
) -> list[_Map | None]:
    """Where Global-Net sees the emotion of each image, 0 to 1; None without Global-Net."""
    maps = network.activation_map(response, emotion)
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


def _faces(found: Faces, *, crops: bool) -> list[Face | None]:
    """The largest face of each image, with its crop on request; None where there is none."""
    rows = zip(found.boxes.tolist(), found.scores.tolist(), found.mask.tolist(), strict=True)
    pixels = found.crops.cpu().numpy() if crops else None
    return [
        Face(tuple(box), score, None if pixels is None else pixels[row].tobytes())
        if there
        else None
        for row, (box, score, there) in enumerate(rows)
    ]
