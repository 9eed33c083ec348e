"""The hierarchical cross-entropy loss against Eq. 13 to 18 and the paper's own numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from handler.values.emotions import EKMAN, MIKELS, POLARITY, Wheel
from train.fitting.losses import HierarchicalCrossEntropy


def by_the_paper(logits: np.ndarray, target: np.ndarray, wheel: Wheel, weight: float) -> float:
    """Eq. 13 to 18 in float64, one image at a time."""
    losses = []
    for scores, label in zip(logits, target, strict=True):
        p_emo = np.exp(scores - scores.max())
        p_emo = p_emo / p_emo.sum()  # (13)
        p_pol = [p_emo[: wheel.positives].sum(), p_emo[wheel.positives :].sum()]  # (14, 15)
        emotion = -math.log(p_emo[label])  # (16)
        polarity = -math.log(p_pol[0 if label < wheel.positives else 1])  # (17)
        losses.append(emotion + weight * polarity)  # (18)
    return float(np.mean(losses))


@settings(max_examples=60, deadline=None)
@given(
    wheel=st.sampled_from([MIKELS, EKMAN, POLARITY]),
    seed=st.integers(0, 10_000),
    batch=st.integers(1, 6),
    weight=st.floats(0, 5),
)
def test_the_loss_is_that_of_equations_13_to_18(
    wheel: Wheel, seed: int, batch: int, weight: float
) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=3.0, size=(batch, len(wheel)))
    target = rng.integers(0, len(wheel), batch)
    loss = HierarchicalCrossEntropy(wheel, weight=weight)(
        torch.from_numpy(logits).log_softmax(dim=1), torch.from_numpy(target)
    )
    assert float(loss) == pytest.approx(by_the_paper(logits, target, wheel, weight), abs=1e-10)


@settings(max_examples=30, deadline=None)
@given(
    wheel=st.sampled_from([MIKELS, EKMAN, POLARITY]),
    seed=st.integers(0, 10_000),
    weight=st.floats(0, 5),
)
def test_the_loss_of_a_distribution_is_what_it_expects_of_the_loss(
    wheel: Wheel, seed: int, weight: float
) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=3.0, size=(4, len(wheel)))
    target = rng.dirichlet(np.ones(len(wheel)), size=4)
    expected = np.mean(
        [
            sum(
                share * by_the_paper(logits[i : i + 1], np.array([emotion]), wheel, weight)
                for emotion, share in enumerate(target[i])
            )
            for i in range(4)
        ]
    )
    loss = HierarchicalCrossEntropy(wheel, weight=weight)(
        torch.from_numpy(logits).log_softmax(dim=1), torch.from_numpy(target)
    )
    assert float(loss) == pytest.approx(expected, abs=1e-9)


def vector(true: float, same_polarity: float) -> torch.Tensor:
    """log p for one image of amusement, given p(amusement) and p(positive)."""
    rest_positive = (same_polarity - true) / 3
    rest_negative = (1 - same_polarity) / 4
    p = [true, *[rest_positive] * 3, *[rest_negative] * 4]
    return torch.tensor([p], dtype=torch.float64).log()


def test_the_numbers_of_figure_7() -> None:
    amusement = torch.tensor([0])
    emotion_only = HierarchicalCrossEntropy(MIKELS, weight=0.0)
    both = HierarchicalCrossEntropy(MIKELS, weight=1.0)
    easy, hard = vector(0.1, 0.9), vector(0.1, 0.2)
    # The emotion term cannot tell them apart; the polarity term can.
    assert float(emotion_only(easy, amusement)) == pytest.approx(2.30, abs=0.005)
    assert float(emotion_only(hard, amusement)) == pytest.approx(2.30, abs=0.005)
    polarity_easy = float(both(easy, amusement) - emotion_only(easy, amusement))
    polarity_hard = float(both(hard, amusement) - emotion_only(hard, amusement))
    assert polarity_easy == pytest.approx(0.11, abs=0.005)
    assert polarity_hard == pytest.approx(1.61, abs=0.005)


def test_gradients_are_those_of_the_function() -> None:
    torch.manual_seed(0)
    logits = torch.randn(5, 8, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0, 3, 4, 7, 2])
    loss = HierarchicalCrossEntropy(MIKELS, weight=0.7)
    assert torch.autograd.gradcheck(lambda x: loss(x.log_softmax(dim=1), target), (logits,))


def test_lambda_zero_is_plain_cross_entropy() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(9, 8).double(), torch.arange(9) % 8
    loss = HierarchicalCrossEntropy(MIKELS, weight=0.0)(logits.log_softmax(1), target)
    assert torch.allclose(loss, functional.cross_entropy(logits, target))


@pytest.mark.parametrize("label", range(8))
def test_a_perfectly_confident_right_answer_costs_nothing(label: int) -> None:
    # A second softmax somewhere would keep this near 1.27 + 0.42.
    logits = torch.full((1, 8), -60.0)
    logits[0, label] = 60.0
    loss = HierarchicalCrossEntropy(MIKELS)(logits.log_softmax(1), torch.tensor([label]))
    assert float(loss) == pytest.approx(0.0, abs=1e-6)


def test_sharper_logits_change_the_loss_as_one_softmax_does() -> None:
    # p = s(k z) for two classes, z = 1: the emotion term is log(1 + e^-k). A second softmax would
    # squash p into 0..1 first and never get below log(1 + 1/e).
    target = torch.tensor([0])
    for factor in (0.5, 1.0, 3.0, 10.0):
        logits = torch.tensor([[factor, 0.0]], dtype=torch.float64)
        loss = HierarchicalCrossEntropy(POLARITY, weight=0.0)(logits.log_softmax(1), target)
        assert float(loss) == pytest.approx(math.log1p(math.exp(-factor)), rel=1e-9)


def test_a_perfectly_confident_wrong_answer_costs_much_but_not_infinity() -> None:
    logits = torch.full((1, 8), -200.0)
    logits[0, 0] = 200.0
    logits.requires_grad_()
    loss = HierarchicalCrossEntropy(MIKELS)(logits.log_softmax(1), torch.tensor([7]))
    loss.backward()
    assert 700 < loss.item() < 900
    assert torch.isfinite(logits.grad).all()


def test_the_wrong_polarity_costs_more_than_the_right_one() -> None:
    loss = HierarchicalCrossEntropy(MIKELS)
    for label in range(8):
        logits = torch.zeros(1, 8)
        same, other = (label + 1) % 4 + 4 * (label // 4), (label + 4) % 8
        easy, hard = logits.clone(), logits.clone()
        easy[0, same], hard[0, other] = 3.0, 3.0
        target = torch.tensor([label])
        assert loss(easy.log_softmax(1), target) < loss(hard.log_softmax(1), target)
