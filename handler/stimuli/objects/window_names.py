"""How sure the name of a window is, by where the evidence lies.

The mean of a window's features is named with confidence even where nothing of the kind is in the
window: each feature sees far beyond its cell, and the classifier knows whole pictures of one thing
only. So two witnesses must agree. The cells of the window say it one by one (c, the mean of their
own probabilities: a thing beside the window convinces few cells in it), and the whole picture says
it too (p, the probability of the mean feature of all cells). The score of a name is the geometric
mean sqrt(c p); that of the whole picture is p itself. It is compared with the threshold of the
source, which was chosen by looking at photos (docs/research/true-names.md).
"""

from __future__ import annotations

import torch

from handler.stimuli.objects.classifier_logits import ClassifierLogits


def name_windows(
    logits: ClassifierLogits,
    inside: torch.Tensor,
    names: torch.Tensor,
    threshold: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The likeliest name of each window, and its score.

    Args:
        logits: Logits of the classifier for cells and windows.
        inside: Share of each cell in each window, float, Kx(hw); rows sum to 1.
        names: Categories of each name, CxN, ones and zeros.
        threshold: Score that a name must reach.

    Returns:
        Scores, float32, BxK, 0 to 1, and names, int64, BxK, indices below N. Where no window of an
        image can reach the threshold, the cells are not asked and its windows have score 0.
    """
    whole = logits.whole().float().softmax(-1) @ names  # BxN
    covers = (inside > 0).all(dim=1)  # K
    likely = whole.amax(dim=1) >= threshold**2
    agreed = whole.new_zeros(len(whole), *inside.shape[:1], whole.shape[-1])  # BxKxN
    if bool(likely.any()):
        votes = logits.cells(likely).float().softmax(-1) @ names  # bxMxN
        agreed[likely] = (inside.float() @ votes * whole[likely].unsqueeze(1)).sqrt()
    scores, labels = torch.where(covers.view(1, -1, 1), whole.unsqueeze(1), agreed).max(-1)
    return scores, labels
