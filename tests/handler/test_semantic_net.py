"""Semantic-Net against the paper's equations, and what masks and order must not change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from handler.organism.semantic_net import SemanticNet
from handler.values.configs import SemanticConfig

FEATURES, HIDDEN, ATTENTION = 7, 5, 6


def make(feed: str = "previous", steps: int = 3) -> SemanticNet:
    torch.manual_seed(11)
    config = SemanticConfig(
        hidden=HIDDEN, attention=ATTENTION, steps=steps, attention_feed=feed, dropout=0.5
    )
    return SemanticNet(feature_size=FEATURES, config=config).double().eval()


def objects(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, count, FEATURES, generator=generator, dtype=torch.float64) * 2


def everything(count: int) -> torch.Tensor:
    return torch.ones(1, count, dtype=torch.bool)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def _lstm(
    weights: dict[str, np.ndarray], name: str, x: np.ndarray, h: np.ndarray, c: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One step of a long short-term memory; the gates lie as input, forget, cell, output."""
    gates = weights[f"{name}.weight_ih"] @ x + weights[f"{name}.bias_ih"]
    gates = gates + weights[f"{name}.weight_hh"] @ h + weights[f"{name}.bias_hh"]
    let_in, keep, candidate, let_out = np.split(gates, 4)
    c = _sigmoid(keep) * c + _sigmoid(let_in) * np.tanh(candidate)
    return _sigmoid(let_out) * np.tanh(c), c


def by_the_paper(net: SemanticNet, f: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eq. 3 to 10 for the objects of one image, NxF: v_s and the weights of each step, TxN."""
    weights = {name: value.numpy() for name, value in net.state_dict().items()}
    w_f = weights["attention.of_features.weight"]
    w_h = weights["attention.of_state.weight"]
    w_a = weights["attention.score.weight"][0]
    f_mean = f.mean(axis=0)
    h_att = c_att = h_cor = c_cor = np.zeros(HIDDEN)
    steps = []
    for _ in range(net.config.steps):
        h_att_before = h_att
        x_att = np.concatenate([h_cor, f_mean])  # (4)
        h_att, c_att = _lstm(weights, "attention_lstm", x_att, h_att, c_att)  # (3)
        a = np.array([w_a @ np.tanh(w_f @ f_i + w_h @ h_att) for f_i in f])  # (5)
        alpha = np.exp(a) / np.exp(a).sum()  # (6)
        f_att = sum(alpha_i * f_i for alpha_i, f_i in zip(alpha, f, strict=True))  # (7)
        fed = h_att_before if net.config.attention_feed == "previous" else h_att
        x_cor = np.concatenate([fed, f_att])  # (9)
        h_cor, c_cor = _lstm(weights, "correlation_lstm", x_cor, h_cor, c_cor)  # (8)
        steps.append(alpha)
    return h_cor, np.stack(steps)  # (10)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("feed", ["previous", "current"])
def test_semantic_net_computes_equations_3_to_10(feed: str, steps: int) -> None:
    net = make(feed, steps)
    features = objects(4)
    v_s, weights = net(features, everything(4))
    expected_v_s, expected_weights = by_the_paper(net, features[0].numpy())
    assert weights.shape == (1, steps, 4)
    np.testing.assert_allclose(v_s[0].detach().numpy(), expected_v_s, atol=1e-12)
    np.testing.assert_allclose(weights[0].detach().numpy(), expected_weights, atol=1e-12)


def test_the_two_readings_of_equation_9_differ() -> None:
    features, mask = objects(4), everything(4)
    v_previous, _ = make("previous")(features, mask)
    v_current, _ = make("current")(features, mask)
    assert not torch.allclose(v_previous, v_current)


@settings(max_examples=30, deadline=None)
@given(real=st.lists(st.booleans(), min_size=1, max_size=8), seed=st.integers(0, 1000))
def test_attention_sums_to_one_over_the_real_objects(real: list[bool], seed: int) -> None:
    mask = torch.tensor([real])
    _, weights = make()(objects(len(real), seed), mask)
    assert (weights[:, :, ~mask[0]] == 0).all()
    total = weights.sum(dim=2)
    expected = torch.full_like(total, float(any(real)))
    assert torch.allclose(total, expected)


@pytest.mark.parametrize("garbage", [1e6, float("inf"), float("nan")])
def test_masked_objects_change_nothing(garbage: float) -> None:
    net, features = make(), objects(3)
    alone, weights_alone = net(features, everything(3))
    padded = torch.cat([features, torch.full((1, 2, FEATURES), garbage).double()], dim=1)
    mask = torch.tensor([[True, True, True, False, False]])
    beside, weights_beside = net(padded, mask)
    assert torch.allclose(alone, beside, atol=1e-12)
    assert torch.allclose(weights_alone, weights_beside[:, :, :3], atol=1e-12)


def test_an_image_without_objects_has_the_zero_vector_and_no_attention() -> None:
    v_s, weights = make()(objects(3), torch.zeros(1, 3, dtype=torch.bool))
    assert (v_s == 0).all()
    assert (weights == 0).all()


def test_an_image_without_objects_sends_back_no_invalid_gradient() -> None:
    net = make()
    features = objects(3).requires_grad_()
    net(features, torch.zeros(1, 3, dtype=torch.bool))[0].sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in net.parameters())


@settings(max_examples=30, deadline=None)
@given(order=st.permutations(range(6)), seed=st.integers(0, 1000))
def test_the_order_of_the_objects_does_not_matter(order: list[int], seed: int) -> None:
    net, features = make(), objects(6, seed)
    mask = torch.tensor([[True, True, True, True, True, False]])
    v_s, weights = net(features, mask)
    v_turned, weights_turned = net(features[:, order], mask[:, order])
    assert torch.allclose(v_s, v_turned, atol=1e-12)
    assert torch.allclose(weights[:, :, order], weights_turned, atol=1e-12)


def test_images_of_a_batch_do_not_see_each_other() -> None:
    net = make()
    batch = torch.cat([objects(3, 1), objects(3, 2)])
    together, _ = net(batch, everything(3).expand(2, -1))
    alone = torch.cat([net(row.unsqueeze(0), everything(3))[0] for row in batch])
    assert torch.allclose(together, alone, atol=1e-12)


@pytest.mark.parametrize(
    ("settings_", "named"), [({"attention_feed": "next"}, "'next'"), ({"steps": 0}, "steps is 0")]
)
def test_a_setting_that_makes_no_sense_is_refused(settings_: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        SemanticConfig(**settings_)
