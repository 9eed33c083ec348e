"""Calibration of the branches: one temperature for each, fitted on the validation split.

A branch that learns fast becomes overconfident and dominates better ones when Eq. 13 adds their
logits. Temperature scaling (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017)
calibrates a whole network with one factor; here every branch has its own. The factors minimise the
emotion loss, not the number of errors, and are folded into the columns of W, so the network keeps
its form. Three numbers fitted on a thousand photos hardly overfit, which the cross-validated
accuracy (each fold scored with factors from the others) measures. On a few photos a prior keeps the
factors near 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch.nn import functional

from handler.network import StimuliAwareNetwork
from handler.stimuli.stimuli import Stimuli

_FOLDS = 5
_STEPS = 100
# Weight of the prior that factors are 1: their logarithms are normal with variance 1/2. Without it,
# the likelihood of branches that separate a few photos perfectly grows with the factors without
# bound, and the network fails on other photos. A thousand photos outweigh the prior, eight do not.
_PENALTY = 1.0


@dataclass(frozen=True)
class Calibration:
    """Result of a calibration.

    Attributes:
        factors: Factors of the branches' logits, in the order of the branches.
        accuracy_before: Accuracy on the split before the calibration, 0 to 1.
        accuracy_cross_validated: Accuracy where each fifth is judged by the factors from the other
            four.
        loss_before: Mean negative log-likelihood before the calibration.
        loss_after: Mean negative log-likelihood with the factors.
    """

    factors: list[float]
    accuracy_before: float
    accuracy_cross_validated: float
    loss_before: float
    loss_after: float


def calibrate(
    network: StimuliAwareNetwork, batches: Iterable[tuple[Stimuli, torch.Tensor]]
) -> Calibration:
    """Fit the factors and fold them into the network's classifier.

    Args:
        network: Trained network, changed in place.
        batches: Batches of the validation split.
    """
    network.eval()
    logits, target = branch_logits(network, batches)
    bias = network.response.classifier.bias.detach().cpu()
    plain = torch.ones(len(logits))
    factors = fit_factors(logits, bias, target)
    folds = torch.arange(len(target)) % _FOLDS
    hits = 0
    for fold in range(_FOLDS):
        rest, held = folds != fold, folds == fold
        chosen = fit_factors(logits[:, rest], bias, target[rest])
        answers = _combine(logits[:, held], bias, chosen).argmax(dim=1)
        hits += int((answers == target[held]).sum())
    before = _combine(logits, bias, plain)
    result = Calibration(
        factors=factors.tolist(),
        accuracy_before=float((before.argmax(dim=1) == target).float().mean()),
        accuracy_cross_validated=hits / len(target),
        loss_before=float(functional.cross_entropy(before, target)),
        loss_after=float(functional.cross_entropy(_combine(logits, bias, factors), target)),
    )
    _fold_in(network, factors)
    return result


@torch.no_grad()
def branch_logits(
    network: StimuliAwareNetwork, batches: Iterable[tuple[Stimuli, torch.Tensor]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of each branch without the bias, branches x images x C, and the labels; on the CPU."""
    device = network.response.classifier.bias.device
    rows, labels = [], []
    for stimuli, target in batches:
        features = network.perceive(stimuli.to(device)).features
        columns = network.response.columns()
        rows.append(torch.stack([f @ w.T for f, w in zip(features, columns, strict=True)]).cpu())
        labels.append(target)
    return torch.cat(rows, dim=1).detach(), torch.cat(labels)


def fit_factors(
    logits: torch.Tensor, bias: torch.Tensor, target: torch.Tensor, *, penalty: float = _PENALTY
) -> torch.Tensor:
    """Positive factors, one a branch, that minimise the cross-entropy of the sum.

    A prior that they are 1 is part of the loss; without images they are 1.

    Args:
        logits: Logits, branches x images x C.
        bias: Bias of the classifier, C, added once.
        target: Labels of the images, int64.
        penalty: Weight of the prior; 0 leaves it out.
    """
    logarithms = torch.zeros(len(logits), requires_grad=True)
    optimizer = torch.optim.LBFGS([logarithms], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        combined = _combine(logits, bias, logarithms.exp())
        likelihood = functional.cross_entropy(combined, target, reduction="sum")
        value = (likelihood + penalty * logarithms.square().sum()) / max(len(target), 1)
        value.backward()
        return value

    optimizer.step(loss)
    return logarithms.detach().exp()


def _combine(logits: torch.Tensor, bias: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    return torch.einsum("b,bnc->nc", factors, logits) + bias


@torch.no_grad()
def _fold_in(network: StimuliAwareNetwork, factors: torch.Tensor) -> None:
    for column, factor in zip(network.response.columns(), factors, strict=True):
        column.mul_(factor)
