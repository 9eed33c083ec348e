"""Each network learns from the stimulus that it is for, where that stimulus alone decides.

Three made-up sets, one for each branch, and the real modules trained on them for some seconds.

1. Two objects of eight kinds decide together. The kinds are the corners of a cube, (a, b, c) with
   a, b, c = -1 or 1. In every photo the second object has the first one's a and b reversed; in half
   of the photos c is reversed too. The emotion is positive if (a = b) and (c is the same in both)
   are both true or both false. Each corner is in two kinds of pairs, one of either emotion, so one
   object says nothing. The mean of the two is (0, 0, c) or (0, 0, 0), and under each value both
   emotions are equally frequent: so the mean says nothing either, not to a linear reader nor to any
   other. (Of an ordinary exclusive-or, by two one-hot codes, that is true of linear readers alone:
   a perceptron reads it off the mean.) Only the pair decides.
2. The tint of a picture decides. It is one that leaves the luminance of every pixel as it was.
3. The mouth of the face decides.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from handler.network import StimuliAwareNetwork
from handler.stimuli.stimuli import Faces, Objects, Stimuli
from handler.values.configs import NetworkConfig, SemanticConfig
from handler.values.emotions import POLARITY
from train.ablation.feature_cache import luminance
from train.ablation.network import MeanObjects
from train.crossval.linear_probe import fit_linear
from train.fitting.losses import HierarchicalCrossEntropy

pytestmark = pytest.mark.integration

SEMANTIC = SemanticConfig(hidden=32, attention=16, steps=3, attention_feed="previous")
SIZE = 16  # F of the made-up objects


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        yield


def stimuli_of(
    count: int,
    *,
    colour: torch.Tensor | None = None,
    objects: torch.Tensor | None = None,
    faces: torch.Tensor | None = None,
) -> Stimuli:
    """Stimuli of which some are given, the others the same for every photo."""
    features = torch.zeros(count, 1, SIZE) if objects is None else objects
    present = features.shape[:2]
    return Stimuli(
        colour=torch.zeros(count, 3, 32, 32, dtype=torch.uint8) if colour is None else colour,
        objects=Objects(
            features=features,
            boxes=torch.zeros(*present, 4),
            scores=torch.ones(present),
            labels=torch.zeros(present, dtype=torch.int64),
            mask=torch.ones(present, dtype=torch.bool),
        ),
        faces=Faces(
            crops=torch.zeros(count, 1, 48, 48, dtype=torch.uint8) if faces is None else faces,
            boxes=torch.zeros(count, 4),
            scores=torch.zeros(count),
            counts=torch.ones(count, dtype=torch.int64),
        ),
    )


def network(**branches: object) -> StimuliAwareNetwork:
    absent = {"global_backbone": None, "semantic": None, "expression_width": None}
    return StimuliAwareNetwork(
        NetworkConfig(wheel=POLARITY.name, object_features=SIZE, **{**absent, **branches})
    )


def learn(net: StimuliAwareNetwork, stimuli: Stimuli, labels: torch.Tensor, **how: float) -> None:
    """Some steps, each on 32 of the photos, shorter and shorter."""
    loss = HierarchicalCrossEntropy(net.wheel)
    optimizer = torch.optim.Adam(net.parameters(), lr=how["lr"])
    steps = int(how["steps"])
    shorter = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 0.3  # a few steps must do for its averages
    net.train()
    for _ in range(steps):
        rows = torch.randperm(len(labels))[:32]
        optimizer.zero_grad()
        loss(net(taken(stimuli, rows)).log_probabilities, labels[rows]).backward()
        optimizer.step()
        shorter.step()


def taken(stimuli: Stimuli, rows: torch.Tensor) -> Stimuli:
    """The stimuli of some photos."""
    groups = (stimuli.objects, stimuli.faces)
    objects, faces = (
        replace(group, **{n: v[rows] for n, v in vars(group).items() if v is not None})
        for group in groups
    )
    return Stimuli(stimuli.colour[rows], objects, faces)


@torch.no_grad()
def accuracy(net: StimuliAwareNetwork, stimuli: Stimuli, labels: torch.Tensor) -> float:
    answers = net.eval()(stimuli).log_probabilities.argmax(dim=1)
    return float((answers == labels).float().mean())


# --- 1. the pair of objects ---------------------------------------------------------------------

CORNERS = torch.tensor([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)]).float()


def pairs(copies: int, *, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Every pair in both orders, ``copies`` times: objects, Bx2xF, and labels, B."""
    first = CORNERS.repeat_interleave(2, dim=0).repeat(copies, 1)
    other_c = torch.tensor([False, True]).repeat(len(first) // 2)
    second = first * torch.tensor([-1.0, -1.0, 1.0])
    second[other_c, 2] *= -1
    positive = (first[:, 0] == first[:, 1]) == ~other_c
    directions = torch.randn(3, SIZE, generator=torch.Generator().manual_seed(5))
    objects = torch.stack([first, second], dim=1) @ directions
    return objects + noise * torch.randn_like(objects), (~positive).long()


def test_in_the_pairs_one_object_says_nothing_nor_does_the_mean() -> None:
    objects, labels = pairs(1, noise=0.0)
    for told in (objects[:, 0], objects[:, 1], objects.mean(dim=1)):
        kinds = torch.unique(told.round(decimals=3), dim=0, return_inverse=True)[1]
        for kind in kinds.unique():
            assert labels[kinds == kind].float().mean() == 0.5
    both = torch.unique(objects.flatten(1).round(decimals=3), dim=0, return_inverse=True)[1]
    for kind in both.unique():
        assert len(labels[both == kind].unique()) == 1, "the pair decides"


def test_semantic_net_learns_what_only_the_pair_of_objects_tells() -> None:
    objects, labels = pairs(8, noise=0.1)
    unseen, true = pairs(20, noise=0.1)
    net = network(semantic=SEMANTIC)
    learn(net, stimuli_of(len(labels), objects=objects), labels, steps=250, lr=1e-2)
    assert accuracy(net, stimuli_of(len(true), objects=unseen), true) > 0.9


def test_no_reader_of_the_mean_learns_it() -> None:
    objects, labels = pairs(40, noise=0.1)
    unseen, true = pairs(60, noise=0.1)
    weight, bias = fit_linear(objects.mean(dim=1), labels, classes=2, penalty=1e-3)
    said = (unseen.mean(dim=1) @ weight.T + bias).argmax(dim=1)
    assert abs(float((said == true).float().mean()) - 0.5) < 0.1

    reader = MeanObjects(feature_size=SIZE, config=SEMANTIC)
    perceptron = nn.Linear(SEMANTIC.hidden, 2)
    optimizer = torch.optim.Adam([*reader.parameters(), *perceptron.parameters()], lr=1e-2)
    mask = torch.ones(objects.shape[:2], dtype=torch.bool)
    for _ in range(150):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(perceptron(reader(objects, mask)), labels)
        loss.backward()
        optimizer.step()
    seen = torch.ones(unseen.shape[:2], dtype=torch.bool)
    said = perceptron(reader(unseen, seen)).argmax(dim=1)
    assert abs(float((said == true).float().mean()) - 0.5) < 0.1


# --- 2. the colour ------------------------------------------------------------------------------

# Red and blue against each other, without a change of 0.299 R + 0.587 G + 0.114 B.
TINT = torch.tensor([20.0, 0.0, -20.0 * 0.299 / 0.114])


def pictures(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Grey textures with a warm or a cold tint: uint8, Bx3x32x32, and labels, B."""
    coarse = 80 + 95 * torch.rand(count, 1, 4, 4)
    grey = nn.functional.interpolate(coarse, size=32, mode="bilinear").expand(-1, 3, -1, -1)
    labels = torch.arange(count) % 2
    sign = (1 - 2 * labels).view(-1, 1, 1, 1)
    return (grey + sign * TINT.view(1, 3, 1, 1)).round().to(torch.uint8), labels


def test_global_net_learns_what_only_the_colour_tells() -> None:
    colour, labels = pictures(64)
    unseen, true = pictures(100)
    net = network(global_backbone="tf_efficientnet_lite0")
    learn(net, stimuli_of(64, colour=colour), labels, steps=30, lr=2e-3)
    assert accuracy(net, stimuli_of(100, colour=unseen), true) > 0.9
    # The same network, the same pictures, without their colour.
    blind = stimuli_of(100, colour=luminance(unseen))
    assert abs(accuracy(net, blind, true) - 0.5) < 0.2


# --- 3. the face --------------------------------------------------------------------------------


def faces(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Heads with a mouth that is curved up or down, somewhere below: uint8, Bx1x48x48."""
    crops = torch.zeros(count, 1, 48, 48, dtype=torch.uint8)
    labels = torch.arange(count) % 2
    column = torch.arange(16)
    for number in range(count):
        face = 90 + 40 * torch.rand(1) + 8 * torch.randn(48, 48)
        for eye in (14, 32):
            face[14:18, eye : eye + 4] -= 60
        curve = ((column - 7.5) ** 2 / 9).long()  # 0 in the middle, 6 at the corners
        height = curve if labels[number] else 6 - curve
        top, left = int(torch.randint(28, 34, (1,))), int(torch.randint(13, 19, (1,)))
        for thick in range(3):
            face[top + height + thick, left + column] -= 60
        crops[number, 0] = face.clamp(0, 255).to(torch.uint8)
    return crops, labels


def test_expression_net_learns_what_only_the_face_tells() -> None:
    crops, labels = faces(256)
    unseen, true = faces(100)
    net = network(expression_width=4)
    learn(net, stimuli_of(256, faces=crops), labels, steps=40, lr=1e-2)
    shown = stimuli_of(100, faces=unseen)
    assert accuracy(net, shown, true) > 0.9
    hidden = stimuli_of(100, faces=unseen)
    hidden.faces.counts = torch.zeros(100, dtype=torch.int64)
    assert accuracy(net, hidden, true) == 0.5, "without a face it has nothing to tell"
