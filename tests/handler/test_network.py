"""The whole network from its configuration: ablations, probabilities, activation maps."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from handler.network import StimuliAwareNetwork
from handler.response import EmotionResponse, polarity_log_probabilities
from handler.stimuli.stimuli import Faces, Objects, Stimuli
from handler.values import emotions
from handler.values.backbones import backbone_spec
from handler.values.configs import NetworkConfig, SemanticConfig

FEATURES = 12
SEMANTIC = SemanticConfig(hidden=8, attention=8, steps=2)
PARTS = {
    "global": ({"global_backbone": "resnet18"}, 512),
    "semantic": ({"semantic": SEMANTIC}, 8),
    "expression": ({"expression_width": 2}, 16),
}
ABLATIONS = [c for n in (1, 2, 3) for c in itertools.combinations(PARTS, n)]


def config_of(parts: tuple[str, ...], wheel: str = "mikels-8") -> NetworkConfig:
    absent = {"global_backbone": None, "semantic": None, "expression_width": None}
    present = {k: v for part in parts for k, v in PARTS[part][0].items()}
    return NetworkConfig(wheel=wheel, object_features=FEATURES, **{**absent, **present})


def build(parts: tuple[str, ...], wheel: str = "mikels-8") -> StimuliAwareNetwork:
    torch.manual_seed(3)
    return StimuliAwareNetwork(config_of(parts, wheel)).eval()


def stimuli(batch: int = 3, features: int = FEATURES, side: int = 64) -> Stimuli:
    generator = torch.Generator().manual_seed(4)
    shape = (batch, 5)
    return Stimuli(
        colour=torch.randint(
            0, 256, (batch, 3, side, side), dtype=torch.uint8, generator=generator
        ),
        objects=Objects(
            features=torch.randn(*shape, features, generator=generator),
            boxes=torch.zeros(*shape, 4),
            scores=torch.rand(shape, generator=generator),
            labels=torch.zeros(shape, dtype=torch.int64),
            mask=torch.ones(shape, dtype=torch.bool),
        ),
        faces=Faces(
            crops=torch.randint(0, 256, (batch, 1, 48, 48), dtype=torch.uint8, generator=generator),
            boxes=torch.zeros(batch, 4),
            scores=torch.zeros(batch),
            counts=torch.arange(batch),  # the first image has no face
        ),
    )


@pytest.mark.parametrize("parts", ABLATIONS, ids="+".join)
def test_every_ablation_is_a_configuration_that_runs(parts: tuple[str, ...]) -> None:
    network = build(parts)
    with torch.inference_mode():
        response = network(stimuli())
    assert network.response.classifier.in_features == sum(PARTS[part][1] for part in parts)
    assert response.log_probabilities.shape == (3, 8)
    assert torch.isfinite(response.log_probabilities).all()
    assert (response.attention is not None) == ("semantic" in parts)
    assert (response.feature_map is not None) == ("global" in parts)


def test_a_network_without_any_branch_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        config_of(())


@pytest.mark.parametrize("wheel", ["mikels-8", "ekman-6", "polarity-2"])
def test_a_network_predicts_the_emotions_of_its_wheel(wheel: str) -> None:
    network = build(("semantic",), wheel)
    count = len(emotions.wheel(wheel))
    assert network(stimuli()).log_probabilities.shape == (3, count)


def test_the_papers_network_has_the_papers_sizes() -> None:
    network = StimuliAwareNetwork(NetworkConfig()).eval()
    with torch.inference_mode():
        response = network(stimuli(1, features=2048, side=32))
    assert network.global_net.feature_size == 2048
    assert network.semantic_net.feature_size == 512
    assert network.expression_net.feature_size == 512
    assert network.response.classifier.weight.shape == (8, 3072)
    assert response.log_probabilities.shape == (1, 8)


@settings(max_examples=50, deadline=None)
@given(
    scale=st.floats(1e-3, 1e4),
    seed=st.integers(0, 1000),
    name=st.sampled_from(["mikels-8", "ekman-6", "polarity-2"]),
)
def test_probabilities_sum_to_one_and_polarity_is_the_sum_of_its_part(
    scale: float, seed: int, name: str
) -> None:
    wheel = emotions.wheel(name)
    torch.manual_seed(seed)
    response = EmotionResponse(feature_sizes=[3, 4], wheel=wheel, dropout=0.0).double()
    parts = [torch.randn(6, 3).double() * scale, torch.randn(6, 4).double() * scale]
    log_p = response(parts)
    p = log_p.exp()
    polarity = polarity_log_probabilities(log_p, wheel).exp()
    ones = torch.ones(6).double()
    assert torch.allclose(p.sum(1), ones, atol=1e-9)
    assert torch.allclose(polarity.sum(1), ones, atol=1e-9)
    assert torch.allclose(polarity[:, 0], p[:, : wheel.positives].sum(1), atol=1e-9)
    assert torch.isfinite(log_p).all()


def test_the_classifier_sees_the_features_in_the_papers_order() -> None:
    network, seen = build(("global", "semantic", "expression")), stimuli()
    with torch.inference_mode():
        v_g, _ = network.global_net(seen.colour)
        v_s, _ = network.semantic_net(seen.objects.features, seen.objects.mask)
        v_e = network.expression_net(seen.faces.crops, seen.faces.mask)
        weight, bias = network.response.classifier.weight, network.response.classifier.bias
        logits = torch.cat([v_g, v_s, v_e], dim=1) @ weight.T + bias  # Eq. 12 and 13
        expected = logits - logits.exp().sum(dim=1, keepdim=True).log()
        assert torch.allclose(network(seen).log_probabilities, expected, atol=1e-4)


def test_the_mean_of_an_activation_map_is_what_global_net_gives_its_class() -> None:
    network, seen = build(("global", "semantic", "expression")), stimuli()
    emotion, other = torch.tensor([5, 0, 2]), torch.tensor([1, 7, 3])
    rows = torch.arange(3)
    with torch.inference_mode():
        response = network(seen)
        maps = network.activation_map(response, emotion)
        other_maps = network.activation_map(response, other)
        v_g, _ = network.global_net(seen.colour)
        v_s, _ = network.semantic_net(seen.objects.features, seen.objects.mask)
        v_e = network.expression_net(seen.faces.crops, seen.faces.mask)
        weight, bias = network.response.classifier.weight, network.response.classifier.bias
        contribution = (weight[emotion, :512] * v_g).sum(dim=1)
        rest = torch.cat([v_s, v_e], dim=1) @ weight[:, 512:].T + bias
    assert maps.shape == (3, *response.feature_map.shape[2:])
    assert torch.allclose(maps.mean(dim=(1, 2)), contribution, atol=1e-4)
    # By the linearity of Eq. 13 both maps and the rest make up the difference of two logits.
    log_p = response.log_probabilities
    difference = log_p[rows, emotion] - log_p[rows, other]
    explained = (maps - other_maps).mean(dim=(1, 2)) + rest[rows, emotion] - rest[rows, other]
    assert torch.allclose(difference, explained, atol=1e-4)


def test_there_is_no_activation_map_without_global_net() -> None:
    network = build(("semantic",))
    assert network.activation_map(network(stimuli()), torch.zeros(3, dtype=torch.int64)) is None


@pytest.mark.parametrize("parts", ABLATIONS, ids="+".join)
def test_a_configuration_survives_json(parts: tuple[str, ...]) -> None:
    config = config_of(parts, "ekman-6")
    assert NetworkConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_what_a_configuration_leaves_out_is_the_papers() -> None:
    assert NetworkConfig.from_dict({}) == NetworkConfig()


@pytest.mark.parametrize(
    ("values", "named"),
    [({"wheel": "plutchik"}, "plutchik"), ({"global_backbone": "resnet1"}, "resnet1")],
)
def test_an_unknown_name_is_refused_when_it_is_configured(
    values: dict[str, str], named: str
) -> None:
    with pytest.raises(ValueError, match=f"unknown .*'{named}'"):
        NetworkConfig.from_dict(values)


def test_a_backbone_takes_bytes_and_floats_alike() -> None:
    backbone = build(("global",)).global_net.backbone
    colour = stimuli().colour
    with torch.inference_mode():
        assert torch.equal(backbone(colour), backbone(colour.float()))
    mean, std = backbone_spec("resnet18").mean, backbone_spec("resnet18").std
    black = (0.0 - mean[0]) / std[0]
    assert torch.allclose((0 - backbone.mean)[0, 0] / backbone.std[0, 0], torch.tensor(black))


def test_in_training_each_branch_also_answers_alone_with_its_own_columns() -> None:
    network = build(("global", "semantic", "expression"))
    network.eval()  # batch statistics and dropout out of the way
    response = network.response
    parts = [torch.randn(3, size) for size in (512, 8, 16)]
    fused = response(parts)
    alone = response.each_alone(parts)
    # Logarithms of probabilities are logits up to a constant: compare differences of emotions.
    logits = sum(alone) - 2 * response.classifier.bias
    assert torch.allclose(logits - logits[:, :1], fused - fused[:, :1], atol=1e-4), (
        "Eq. 13 is linear"
    )
    silent = response.each_alone([torch.zeros_like(part) for part in parts])
    assert torch.allclose(silent[0], response.classifier.bias.log_softmax(0).expand(3, -1))


def test_the_lone_answers_are_for_training_only_and_know_who_has_a_face() -> None:
    network = build(("global", "semantic", "expression"))
    assert network(stimuli()).alone == []
    seen = stimuli()
    seen.objects.mask[1] = False
    (_, whole), (_, objects), (_, faces) = network.train()(seen).alone
    assert whole.tolist() == [True, True, True]
    assert objects.tolist() == [True, False, True]
    assert faces.tolist() == [False, True, True]
