"""Calibration of probabilities.

Of the images that are predicted with a confidence of 70 %, 70 % should be correct. The negative
log-likelihood and the Brier score measure whole distributions, the expected calibration error
(Naeini et al., AAAI 2015; Guo et al., ICML 2017) the most probable class alone, and the bins of the
reliability diagram show where the error comes from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.functional.classification import multiclass_calibration_error

from train.evaluation.intervals import wilson_interval

BINS = 15

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Bin:
    """A bin of the reliability diagram: images of similar confidence.

    Attributes:
        low: Lower bound of the bin's confidence.
        high: Upper bound of the bin's confidence, which only the last bin includes.
        images: Number of images in the bin.
        confidence: Mean probability of the predicted class; NaN without images.
        accuracy: Fraction of correct predictions; NaN without images.
        interval: Interval of ``accuracy`` (95 %, Wilson: a bin may hold few images).
    """

    low: float
    high: float
    images: int
    confidence: float
    accuracy: float
    interval: tuple[float, float]


def negative_log_likelihood(probabilities: Floats, labels: Labels) -> float:
    """Mean of -log p(label): 0 is perfect, log C is guessing.

    Args:
        probabilities: Probabilities, images x C, rows sum to 1.
        labels: Labels of the images, int64.
    """
    if not len(labels):
        return math.nan
    of_label = probabilities[np.arange(len(labels)), labels]
    # A probability that underflowed to zero must not make the whole data set's mean infinite.
    return float(-np.log(np.maximum(of_label, np.finfo(np.float64).tiny)).mean())


def brier_score(probabilities: Floats, labels: Labels) -> float:
    """Mean squared distance from the one-hot label, summed over classes (Brier 1950).

    0 is perfect, 1 - 1/C the uniform distribution, 2 certain and always wrong.

    Args:
        probabilities: Probabilities, images x C, rows sum to 1.
        labels: Labels of the images, int64.
    """
    if not len(labels):
        return math.nan
    truth = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities - truth) ** 2).sum(axis=1).mean())


def expected_calibration_error(probabilities: Floats, labels: Labels, *, bins: int = BINS) -> float:
    """Mean gap between confidence and accuracy over bins of equal width, weighted by images.

    Args:
        probabilities: Probabilities, images x C, rows sum to 1.
        labels: Labels of the images, int64.
        bins: Number of bins, over confidences 0 to 1.
    """
    if not len(labels):
        return math.nan
    return float(
        multiclass_calibration_error(
            # A probability of 1 + 1e-16 would make it take all of them for logits.
            torch.from_numpy(probabilities.clip(0.0, 1.0)),
            torch.from_numpy(labels),
            num_classes=probabilities.shape[1],
            n_bins=bins,
            norm="l1",
        )
    )


def reliability_bins(probabilities: Floats, labels: Labels, *, bins: int = BINS) -> list[Bin]:
    """The images binned by the probability of their predicted class, low to high.

    Args:
        probabilities: Probabilities, images x C, rows sum to 1.
        labels: Labels of the images, int64.
        bins: Number of bins of equal width.
    """
    confidence = probabilities.max(axis=1, initial=0.0)
    hits = probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, bins + 1)
    of_image = np.clip(np.searchsorted(edges, confidence, side="right") - 1, 0, bins - 1)
    found = []
    for index in range(bins):
        members = of_image == index
        images = int(members.sum())
        accuracy = float(hits[members].mean()) if images else math.nan
        found.append(
            Bin(
                low=float(edges[index]),
                high=float(edges[index + 1]),
                images=images,
                confidence=float(confidence[members].mean()) if images else math.nan,
                accuracy=accuracy,
                interval=wilson_interval(accuracy, images),
            )
        )
    return found
