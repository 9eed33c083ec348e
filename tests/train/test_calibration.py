"""Factors of branches: fitted by likelihood, folded into the classifier."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from handler.network import StimuliAwareNetwork
from handler.stimuli.stimuli import Faces, Objects, Stimuli
from handler.values.configs import NetworkConfig, SemanticConfig
from train.fitting.calibration import calibrate, fit_factors


def batch(count: int = 40) -> tuple[Stimuli, torch.Tensor]:
    rng = torch.Generator().manual_seed(5)
    return (
        Stimuli(
            colour=torch.zeros(count, 3, 8, 8, dtype=torch.uint8),
            objects=Objects(
                features=torch.randn(count, 3, 6, generator=rng),
                boxes=torch.zeros(count, 3, 4),
                scores=torch.zeros(count, 3),
                labels=torch.zeros(count, 3, dtype=torch.int64),
                mask=torch.ones(count, 3, dtype=torch.bool),
            ),
            faces=Faces(
                crops=torch.randint(0, 256, (count, 1, 48, 48), dtype=torch.uint8, generator=rng),
                boxes=torch.zeros(count, 4),
                scores=torch.zeros(count),
                counts=torch.arange(count) % 2,
            ),
        ),
        torch.randint(0, 8, (count,), generator=rng),
    )


def network() -> StimuliAwareNetwork:
    torch.manual_seed(6)
    made = StimuliAwareNetwork(
        NetworkConfig(
            global_backbone=None,
            object_features=6,
            semantic=SemanticConfig(hidden=4, attention=4),
            expression_width=2,
        )
    ).eval()
    torch.nn.init.normal_(made.response.classifier.weight, std=3.0)  # surer than it may be
    return made


def test_a_branch_that_only_guesses_is_silenced_and_one_that_is_right_is_not() -> None:
    rng = torch.Generator().manual_seed(7)
    target = torch.randint(0, 8, (400,), generator=rng)
    right = 2.0 * functional.one_hot(target, 8) + torch.randn(400, 8, generator=rng)
    noise = 3.0 * torch.randn(400, 8, generator=rng)
    trusted, silenced = fit_factors(torch.stack([right, noise]), torch.zeros(8), target).tolist()
    assert trusted > 0.5
    assert silenced < 0.1


def test_an_overconfident_branch_gets_its_temperature_back() -> None:
    rng = torch.Generator().manual_seed(8)
    honest = torch.randn(20_000, 8, generator=rng)
    target = torch.multinomial(honest.softmax(dim=1), 1, generator=rng).squeeze(1)
    (factor,) = fit_factors(4.0 * honest.unsqueeze(0), torch.zeros(8), target).tolist()
    assert factor == pytest.approx(0.25, rel=0.05)


@pytest.mark.parametrize("count", [1, 8, 40, 100])
def test_factors_stay_sane_where_few_photos_happen_to_be_told_apart(count: int) -> None:
    rng = torch.Generator().manual_seed(9)
    target = torch.arange(count) % 8
    right = 2.0 * functional.one_hot(target, 8) + 0.1 * torch.randn(count, 8, generator=rng)
    noise = torch.randn(count, 8, generator=rng)
    trusted, other = fit_factors(torch.stack([right, noise]), torch.zeros(8), target).tolist()
    assert 1 < trusted < 5
    assert 0.3 < other < 3


def test_a_thousand_photos_outweigh_the_prior() -> None:
    rng = torch.Generator().manual_seed(8)
    honest = torch.randn(2, 1000, 8, generator=rng)
    target = torch.multinomial(honest.sum(dim=0).softmax(dim=1), 1, generator=rng).squeeze(1)
    logits = honest * torch.tensor([2.0, 0.7]).view(2, 1, 1)
    found = fit_factors(logits, torch.zeros(8), target)
    without = fit_factors(logits, torch.zeros(8), target, penalty=0.0)
    assert torch.allclose(found, without, rtol=0.02)


def test_a_single_photo_to_validate_on_is_enough() -> None:
    made, (stimuli, target) = network(), batch(1)
    result = calibrate(made, [(stimuli, target)])
    assert result.accuracy_cross_validated == result.accuracy_before
    assert all(0.3 < factor < 3 for factor in result.factors)


def test_the_folded_factors_change_what_the_network_answers_and_nothing_else() -> None:
    made, (stimuli, target) = network(), batch()
    columns = made.response.classifier.weight.detach().clone()
    others = {k: v.clone() for k, v in made.state_dict().items() if "classifier.weight" not in k}
    result = calibrate(made, [(stimuli, target)])
    semantic, expression = result.factors
    expected = torch.cat([columns[:, :4] * semantic, columns[:, 4:] * expression], dim=1)
    assert torch.allclose(made.response.classifier.weight, expected)
    assert all(torch.equal(made.state_dict()[name], value) for name, value in others.items())
    answers = made(stimuli).log_probabilities
    assert float(functional.nll_loss(answers, target)) == pytest.approx(result.loss_after, abs=1e-4)
    assert result.loss_after < result.loss_before


def test_every_image_is_judged_once_by_factors_that_have_not_seen_it() -> None:
    made, (stimuli, target) = network(), batch()
    result = calibrate(made, [(stimuli, target)])
    assert 0 <= result.accuracy_cross_validated <= 1
    assert result.accuracy_cross_validated * len(target) == pytest.approx(
        round(result.accuracy_cross_validated * len(target))
    )
