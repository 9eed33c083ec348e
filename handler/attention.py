"""What Semantic-Net attended to: tensors of objects -> `AttendedObject`, by image."""

from __future__ import annotations

import torch

from handler.stimuli.objects.source import ObjectSource
from handler.stimuli.stimuli import Objects
from handler.values.prediction import AttendedObject


def attended_objects(
    objects: Objects, attention: torch.Tensor | None, source: ObjectSource
) -> list[tuple[AttendedObject, ...]]:
    """The objects of B images, most attended first.

    Args:
        objects: Objects that the source found.
        attention: Weight of each object, BxN; None without Semantic-Net, for weights of 0.
        source: Object source, which knows the words of labels and attributes.
    """
    weights = (attention if attention is not None else objects.scores * 0).tolist()
    vocabulary, labels, scores = source.vocabulary, objects.labels, objects.scores
    if objects.names is not None and objects.name_scores is not None:
        vocabulary, labels, scores = source.names, objects.names, objects.name_scores
    labels = labels.masked_fill(scores < source.name_threshold, -1)
    attributes = torch.full_like(labels, -1)
    if objects.attributes is not None:
        attributes = objects.attributes.masked_fill(labels < 0, -1)
    listed = []
    for row, mask in enumerate(objects.mask.tolist()):
        found = [
            AttendedObject(
                label=vocabulary[label] if label >= 0 else None,
                score=score,
                box=tuple(box),
                attention=weight,
                attribute=source.attributes[attribute] if attribute >= 0 else None,
            )
            for label, attribute, score, box, weight, real in zip(
                labels[row].tolist(),
                attributes[row].tolist(),
                scores[row].tolist(),
                objects.boxes[row].tolist(),
                weights[row],
                mask,
                strict=True,
            )
            if real
        ]
        listed.append(tuple(sorted(found, key=lambda item: -item.attention)))
    return listed
