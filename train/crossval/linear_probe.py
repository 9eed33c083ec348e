"""A linear probe for cross-validation: a linear classifier on the features of frozen parts.

Each photo becomes one vector: Global-Net's feature of the whole picture, the mean of the features
of its objects, and Expression-Net's feature of its face, each with the recipe's initial weights (a
part with random weights is left out if another has pre-trained ones). The vectors are computed
once; a training is then a logistic regression and takes seconds. It measures how well the recipe's
initial weights separate the emotions; training the network itself is more accurate.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.nn import functional

from handler.network import StimuliAwareNetwork
from handler.stimuli.stimuli import Stimuli
from handler.values.emotions import Wheel
from train.fitting.builders import build_network, build_selector, selector_files
from train.fitting.data import StimuliDataset, default_workers, validation_loader
from train.recipes.recipe import Recipe
from train.stimuli.cache import build_cache

Floats = NDArray[np.float64]
Progress = Callable[[str, int, int], None]

_BATCH = 32
_STEPS = 200
# Weight of the squared weights beside the mean cross-entropy. In five folds of 800 photos of FI it
# is the best of 0.1 to 8 for both protocols; a third or twice of it costs one or two points.
_PENALTY = 1.0


class LinearProbe:
    """A `TrainAndScore` of linear classifiers.

    Args:
        features: Feature vectors, float32, photos x d.
        digests: SHA-256 of each photo's file.
    """

    def __init__(self, features: torch.Tensor, digests: list[str]) -> None:
        self.features = features
        self.row_of = {digest: row for row, digest in enumerate(digests)}

    def __call__(self, train: pd.DataFrame, test: pd.DataFrame, wheel: Wheel) -> Floats:
        """Fit to the training rows and score the test rows; photos without features give NaN."""
        train = train[train["sha256"].isin(self.row_of)]
        known = test["sha256"].isin(self.row_of).to_numpy()
        x = self.features[[self.row_of[digest] for digest in train["sha256"]]]
        mean, std = x.mean(dim=0), x.std(dim=0).clamp(min=1e-6)
        y = torch.tensor(train["label"].tolist())
        weight, bias = fit_linear((x - mean) / std, y, classes=len(wheel))
        asked = self.features[[self.row_of[digest] for digest in test["sha256"][known]]]
        answers = np.full((len(test), len(wheel)), np.nan)
        logits = ((asked - mean) / std) @ weight.T + bias
        answers[known] = logits.double().log_softmax(dim=1).numpy()
        return answers


def fit_linear(
    features: torch.Tensor, labels: torch.Tensor, *, classes: int, penalty: float = _PENALTY
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logistic regression.

    Args:
        features: Standardised feature vectors, float32, photos x d.
        labels: Labels of the photos, int64.
        classes: Number C of classes.
        penalty: Weight of the sum of the squared weights in the loss.

    Returns:
        Weights, C x d, and biases, C.
    """
    weight = torch.zeros(classes, features.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(features @ weight.T + bias, labels)
        value = value + penalty * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return weight.detach(), bias.detach()


def build_linear_probe(
    recipe: Recipe,
    table: pd.DataFrame,
    *,
    cache_root: Path,
    workers: int | None = None,
    on_progress: Progress = lambda what, done, total: None,
) -> LinearProbe:
    """Compute the features of every photo that can be read.

    Args:
        recipe: Recipe that gives the selector and the initial weights.
        table: Table with columns ``path`` and ``sha256``.
        cache_root: Folder of the stimuli caches.
        workers: Number of processes that select stimuli, and of processes that load batches.
        on_progress: Callback with (what, photos done, photos in all).

    Raises:
        RecipeError, WeightsMissing, CacheError: See their messages.
    """
    files = selector_files(recipe)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        selector = build_selector(recipe, files)
        network = build_network(recipe, selector).eval()
    photos = table.drop_duplicates("sha256").reset_index(drop=True)
    cache = build_cache(
        photos,
        selector,
        cache_root,
        files=files,
        colour=recipe.training.colour,
        workers=max(workers or 1, 1),
        on_progress=lambda done, total: on_progress("stimuli", done, total),
    )
    dataset = StimuliDataset(cache, photos["path"], [0] * len(photos), selector.config)
    loading = default_workers(recipe.training) if workers is None else workers
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device)
    rows: list[torch.Tensor] = []
    with torch.inference_mode():
        for stimuli, _ in validation_loader(dataset, batch_size=_BATCH, workers=loading):
            rows.append(_see(network, stimuli.to(device), _parts(recipe)).cpu())
            on_progress("features", sum(map(len, rows)), len(dataset))
    features = torch.cat(rows) if rows else torch.empty(0, 1)
    # What was made in inference mode cannot be trained on.
    return LinearProbe(features.clone(), photos["sha256"].iloc[dataset.rows].tolist())


def _parts(recipe: Recipe) -> set[str]:
    """Which of the parts give features."""
    config = recipe.network
    there = {
        "global": config.global_backbone is not None,
        "objects": config.semantic is not None,
        "expression": config.expression_width is not None,
    }
    parts = {name for name, present in there.items() if present}
    knowing = {name for name in parts if recipe.initial[name] != "random"}
    return knowing or parts


def _see(network: StimuliAwareNetwork, stimuli: Stimuli, parts: set[str]) -> torch.Tensor:
    """The feature vectors of a batch, Bxd."""
    seen = []
    if "global" in parts and network.global_net is not None:
        seen.append(network.global_net(stimuli.colour)[0])
    if "objects" in parts:
        mask = stimuli.objects.mask.unsqueeze(2).float()
        seen.append((stimuli.objects.features * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1))
    if "expression" in parts and network.expression_net is not None:
        seen.append(network.expression_net(stimuli.faces.crops, stimuli.faces.mask))
    return torch.cat(seen, dim=1)
