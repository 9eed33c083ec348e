"""How the network learns: what is optimised, how fast, by which loss, and what stays frozen."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from handler.network import StimuliAwareNetwork
from handler.stimuli.stimuli import Faces, Objects, Stimuli
from handler.values import emotions
from handler.values.configs import NetworkConfig, SemanticConfig
from train.fitting.losses import HierarchicalCrossEntropy
from train.fitting.mixup import mix
from train.fitting.module import EmotionModule, frozen_stages
from train.recipes.reading import RecipeError
from train.recipes.recipe import load_recipe
from train.recipes.training import TrainingConfig

LITE = "tf_efficientnet_lite0"
NETWORK = NetworkConfig(
    global_backbone=LITE,
    object_features=20,
    semantic=SemanticConfig(hidden=8, attention=8, steps=2),
    expression_width=2,
)
# Without a backbone to train: seconds become tenths of seconds.
QUICK = replace(NETWORK, global_backbone=None)


def module(network: NetworkConfig = QUICK, *, steps: int = 10, **training) -> EmotionModule:
    torch.manual_seed(3)
    config = TrainingConfig(**training)
    made = EmotionModule(StimuliAwareNetwork(network), config, steps_per_epoch=steps, seed=5)
    made.log = lambda *args, **kwargs: None  # there is no trainer to log to
    return made


def stimuli(faces: torch.Tensor) -> Stimuli:
    rng = torch.Generator().manual_seed(1)
    count = len(faces)
    return Stimuli(
        colour=torch.zeros(count, 3, 8, 8, dtype=torch.uint8),
        objects=Objects(
            features=torch.randn(count, 4, 20, generator=rng),
            boxes=torch.zeros(count, 4, 4),
            scores=torch.zeros(count, 4),
            labels=torch.zeros(count, 4, dtype=torch.int64),
            mask=torch.ones(count, 4, dtype=torch.bool),
        ),
        faces=Faces(
            crops=torch.randint(0, 256, (count, 1, 48, 48), dtype=torch.uint8, generator=rng),
            boxes=torch.zeros(count, 4),
            scores=torch.zeros(count),
            counts=faces,
        ),
    )


def rates(made: EmotionModule, steps: int) -> list[float]:
    """Learning rate of the last group at each step."""
    settled = made.configure_optimizers()
    optimizer, schedule = settled["optimizer"], settled["lr_scheduler"]["scheduler"]
    assert settled["lr_scheduler"]["interval"] == "step"
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[-1]["lr"])
        optimizer.step()
        schedule.step()
    return seen


# --- what is optimised --------------------------------------------------------------------------


@pytest.mark.parametrize("freeze_stages", [0, 2])
def test_the_optimiser_lists_parameters_in_the_order_of_the_network(freeze_stages: int) -> None:
    # A checkpoint knows moments by position: in another order they would be another layer's.
    made = module(NETWORK, freeze_stages=freeze_stages, lr=2e-3, lr_backbone=1e-3)
    parameters = list(made.network.parameters())
    position = {id(p): place for place, p in enumerate(parameters)}
    groups = made.parameter_groups()
    listed = [[position[id(p)] for p in group["params"]] for group in groups]
    assert all(places == sorted(places) for places in listed)
    trained = [position[id(p)] for p in parameters if p.requires_grad]
    assert sorted(places for group in listed for places in group) == trained
    assert [group["lr"] for group in groups] == [1e-3, 2e-3]


@pytest.mark.parametrize("backbone", [LITE, "resnet18"])
def test_freezing_no_stage_trains_everything(backbone: str) -> None:
    made = module(replace(NETWORK, global_backbone=backbone), freeze_stages=0)
    assert frozen_stages(made.network.global_net.backbone, 0) == []
    assert all(p.requires_grad for p in made.network.parameters())


@pytest.mark.parametrize(("backbone", "stages"), [(LITE, 8), ("resnet18", 5)])
def test_more_frozen_stages_than_there_are_is_refused(backbone: str, stages: int) -> None:
    network = StimuliAwareNetwork(replace(NETWORK, global_backbone=backbone))
    with pytest.raises(RecipeError, match=f"freeze_stages is {stages}: .* has {stages - 1}"):
        frozen_stages(network.global_net.backbone, stages)


def test_adam_puts_the_weight_decay_into_the_gradient_and_adamw_beside_it() -> None:
    kinds = {}
    for name in ("adam", "adamw"):
        optimizer = module(optimizer=name, weight_decay=5e-5).configure_optimizers()["optimizer"]
        kinds[name] = type(optimizer)
        assert all(group["weight_decay"] == 5e-5 for group in optimizer.param_groups)
    assert kinds == {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


# --- how fast -----------------------------------------------------------------------------------


def test_the_paper_decays_its_learning_rate_by_a_tenth_every_five_epochs() -> None:
    config = load_recipe("paper").training
    torch.manual_seed(3)
    made = EmotionModule(StimuliAwareNetwork(QUICK), config, steps_per_epoch=2, seed=5)
    seen = rates(made, steps=22)
    expected = [5e-5] * 10 + [5e-6] * 10 + [5e-7] * 2
    assert seen == pytest.approx(expected)


def test_one_cycle_rises_to_the_learning_rate_and_falls_over_the_whole_run() -> None:
    seen = rates(module(epochs=4, lr=1e-2), steps=40)
    assert max(seen) == pytest.approx(1e-2)
    assert seen.index(max(seen)) == 7
    assert seen[0] == pytest.approx(1e-2 / 25)
    assert seen[-1] < 1e-6


@pytest.mark.parametrize("epochs", [1, 2, 3, 5])
def test_a_run_of_very_few_steps_has_a_cycle_too(epochs: int) -> None:
    assert len(rates(module(epochs=epochs, steps=1), steps=epochs)) == epochs


# --- by which loss ------------------------------------------------------------------------------


def test_the_branch_weight_adds_the_loss_of_each_branch_that_has_its_stimulus() -> None:
    torch.manual_seed(3)
    network = StimuliAwareNetwork(QUICK).train()
    faces = torch.tensor([1, 0, 1])
    seen, target = stimuli(faces), torch.tensor([0, 3, 6])

    def loss(weight: float) -> float:
        made = EmotionModule(
            network, TrainingConfig(branch_weight=weight), steps_per_epoch=1, seed=5
        )
        made.log = lambda *args, **kwargs: None
        return made.training_step((seen, target), 0).item()

    (semantic, _), (expression, _) = network(seen).alone
    measure = HierarchicalCrossEntropy(network.wheel)
    here = faces.bool()
    extra = measure(semantic, target) + measure(expression[here], target[here])
    assert loss(0.5) - loss(0.0) == pytest.approx(0.5 * float(extra.detach()), rel=1e-4)


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0, 0.9), seed=st.integers(0, 999), polarity=st.floats(0, 2))
def test_a_smoothed_label_is_smooth_over_emotions_and_over_polarities(
    share: float, seed: int, polarity: float
) -> None:
    rng = torch.Generator().manual_seed(seed)
    log_p = torch.randn(5, 8, generator=rng, dtype=torch.float64).log_softmax(1)
    target = torch.randint(0, 8, (5,), generator=rng)
    made = module(label_smoothing=share, polarity_weight=polarity)
    wheel = emotions.MIKELS
    label = (1 - share) * functional.one_hot(target, 8).double() + share / 8
    halves = torch.stack(
        [label[:, : wheel.positives].sum(1), label[:, wheel.positives :].sum(1)], 1
    )
    log_halves = torch.stack(
        [log_p[:, : wheel.positives].logsumexp(1), log_p[:, wheel.positives :].logsumexp(1)], 1
    )
    expected = -(label * log_p).sum(1).mean() - polarity * (halves * log_halves).sum(1).mean()
    found = float(made.loss(log_p, made.soft_target(target).double()))
    assert found == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("branch_weight", [0.0, 0.5])
def test_a_blend_is_judged_by_both_of_its_labels(
    monkeypatch: pytest.MonkeyPatch, branch_weight: float
) -> None:
    order = torch.tensor([1, 2, 0])
    monkeypatch.setattr("train.fitting.module.Beta.sample", lambda _: torch.tensor(0.3))
    monkeypatch.setattr("torch.randperm", lambda *_, **__: order)
    made = module(mixup=0.2, branch_weight=branch_weight)
    made.network.train()
    seen, target = stimuli(torch.tensor([1, 0, 1])), torch.tensor([0, 3, 6])
    found = float(made.training_step((seen, target), 0))
    # The larger fraction of 0.3 and 0.7 is the photo's own.
    blend = mix(seen, order, 0.7)
    response = made.network(blend)
    answers = [(response.log_probabilities, torch.ones(3, dtype=torch.bool), 1.0)]
    answers += [(alone, present, branch_weight) for alone, present in response.alone]
    expected = sum(
        weight * fraction * float(made.loss(answer[here], label[here]))
        for answer, here, weight in answers
        for label, fraction in ((target, 0.7), (target[order], 0.3))
    )
    assert found == pytest.approx(expected, rel=1e-5)


def test_validation_measures_the_plain_loss() -> None:
    logged: dict[str, float] = {}
    losses = []
    for smoothing in (0.0, 0.3):
        made = module(label_smoothing=smoothing).eval()
        made.log = lambda name, value, **_: logged.update({name: value})
        made.validation_step((stimuli(torch.tensor([1, 0])), torch.tensor([2, 5])), 0)
        losses.append(float(logged["val_loss"]))
    assert losses[0] == losses[1]
