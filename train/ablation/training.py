"""Training and evaluation of one row of a study: a plain loop over features in memory.

Every training is evaluated after its last epoch: no epoch is selected on the evaluation photos. All
rows are trained on the same photos in the same order, with the same seed.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim.lr_scheduler import OneCycleLR

from handler.values import emotions
from handler.values.checks import check_number
from train.ablation.features import FeatureBatch, FeatureSet
from train.ablation.network import AblationNetwork, Sizes
from train.ablation.studies import Variant
from train.evaluation.metrics import Scores
from train.evaluation.reliability import negative_log_likelihood
from train.fitting.losses import HierarchicalCrossEntropy
from train.recipes.reading import build_config, read_values
from train.recipes.recipe import Recipe
from train.seeds import derived_seed

_FORMAT = 1
_PRECISIONS = {"32": torch.float32, "bf16-mixed": torch.bfloat16}
_EVALUATION_BATCH = 1024
_SHORTEST_CYCLE = 6  # torch divides by zero where the cycle rises for one step only

Bits = NDArray[np.bool_]


@dataclass(frozen=True)
class AblationConfig:
    """Settings of the trainings; the same for all rows of a study.

    Attributes:
        epochs: Number of passes over the training photos.
        batch_size: Number of photos in a step.
        lr: Peak learning rate of one cycle.
        weight_decay: Weight decay of AdamW.
        hidden: Number of units of the layer over v_g.
        dropout: Dropout rate before the classifier.
        flip: Whether half of the pictures, drawn anew in each epoch, are mirrored.
        precision: Floating-point precision, ``"32"`` or ``"bf16-mixed"``.
        photos: Number of training photos, drawn at random; 0 takes all.
    """

    epochs: int = 6
    batch_size: int = 256
    lr: float = 1e-3
    weight_decay: float = 1e-2
    hidden: int = 512
    dropout: float = 0.4
    flip: bool = True
    precision: str = "bf16-mixed"
    photos: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "hidden"):
            check_number(name, getattr(self, name), least=1, whole=True)
        for name in ("lr", "weight_decay", "dropout"):
            check_number(name, getattr(self, name), least=0)
        check_number("photos", self.photos, least=0, whole=True)
        if self.dropout >= 1:
            raise ValueError(f"dropout is {self.dropout}: expected less than 1")
        if not isinstance(self.flip, bool):
            raise ValueError(f"flip is '{self.flip}': expected true or false")
        if self.precision not in _PRECISIONS:
            raise ValueError(f"precision is '{self.precision}': expected '32' or 'bf16-mixed'")


@dataclass(frozen=True)
class Experiment:
    """Everything that a training depends on but the row and the seed.

    Attributes:
        recipe: Recipe of the model: Semantic-Net, widths, wheel, weight of the branches' own
            losses.
        config: Configuration of the training of every row.
        train: Features of the training photos.
        judged: Features of the photos that rows are evaluated on.
        split: Name of the split of ``judged``.
    """

    recipe: Recipe
    config: AblationConfig
    train: FeatureSet
    judged: FeatureSet
    split: str = "val"

    def settings(self) -> dict[str, Any]:
        """All settings that a result depends on, beside row and seed.

        Lambda, T and the feed belong to the row, so that studies can have rows in common.
        """
        recipe = self.recipe.to_dict()
        network = recipe["network"]
        for name in ("steps", "attention_feed"):
            network["semantic"].pop(name)
        network.pop("dropout")
        document: dict[str, Any] = {
            "format": _FORMAT,
            "recipe": self.recipe.name,
            "network": network,
            "branch_weight": self.recipe.training.branch_weight,
            "ablation": asdict(self.config),
            "features": self.train.identity,
            "split": self.split,
            "photos": {"train": _digest(self.train), "judged": _digest(self.judged)},
        }
        return document


def load_ablation_config(overrides: Sequence[str] = ()) -> AblationConfig:
    """The settings of ``train/recipes/ablation.yaml``.

    Args:
        overrides: Overrides of the form ``ablation.KEY=VALUE``.

    Raises:
        RecipeError: An override is wrong.
    """
    values = read_values("ablation", overrides)["ablation"]
    return build_config(AblationConfig, values, what="the recipe of the ablation", path="ablation.")


def train_variant(variant: Variant, seed: int, experiment: Experiment) -> dict[str, Any]:
    """Train one network and evaluate it after the last epoch.

    On one machine, the results follow from variant, seed and settings alone.

    Returns:
        The JSON document, without the settings.
    """
    started = time.perf_counter()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.random.fork_rng():
        torch.manual_seed(derived_seed(seed, "ablation"))
        network = _build(variant, experiment).to(device)
        _fit(network, experiment, device, seed)
        log_probabilities = _judge(network, experiment, device)
    wheel = network.response.wheel
    p = log_probabilities.double().exp().numpy()
    labels = experiment.judged.labels.numpy()
    scores = Scores(wheel, labels, p, p[:, : wheel.positives].sum(axis=1))
    positive = labels < wheel.positives
    return {
        "network": variant.slug,
        "seed": seed,
        "images": scores.images,
        "accuracy": scores.accuracy,
        "polarity_accuracy": scores.polarity_accuracy,
        "easy_errors": scores.easy_errors / scores.images,
        "hard_errors": scores.hard_errors / scores.images,
        "negative_log_likelihood": negative_log_likelihood(p, labels),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "seconds": round(time.perf_counter() - started, 2),
        "bits": {
            "hits": pack_bits(scores.predicted == labels),
            "polarity_hits": pack_bits((scores.p_positive >= 0.5) == positive),
            "hard": pack_bits((scores.predicted < wheel.positives) != positive),
        },
    }


def pack_bits(bits: Bits) -> str:
    """Booleans as hexadecimal digits, four to each."""
    return np.packbits(bits).tobytes().hex()


def unpack_bits(text: str, count: int) -> Bits:
    """The booleans that `pack_bits` encoded."""
    packed = np.frombuffer(bytes.fromhex(text), dtype=np.uint8)
    return np.unpackbits(packed, count=count).astype(bool)


def _build(variant: Variant, experiment: Experiment) -> AblationNetwork:
    recipe, config = experiment.recipe, experiment.config
    semantic, width = recipe.network.semantic, recipe.network.expression_width
    assert semantic is not None  # `full_model` has seen to it
    assert width is not None
    return AblationNetwork(
        variant,
        sizes=Sizes.of(
            experiment.train, hidden=config.hidden, expression_width=width, dropout=config.dropout
        ),
        semantic=semantic,
        wheel=emotions.wheel(recipe.network.wheel),
    )


def _fit(network: AblationNetwork, experiment: Experiment, device: str, seed: int) -> None:
    config, photos = experiment.config, experiment.train
    own = experiment.recipe.training.branch_weight
    loss_of = HierarchicalCrossEntropy(
        network.response.wheel, weight=network.variant.polarity_weight
    )
    size = min(config.batch_size, len(photos))
    steps = len(photos) // size  # a short last batch is left out, as in `vea train`
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True
    )
    schedule = OneCycleLR(
        optimizer,
        max_lr=config.lr,
        total_steps=max(config.epochs * steps, _SHORTEST_CYCLE),
        pct_start=0.2,
    )
    # Of its own, so that all rows see the same photos in the same order.
    rng = torch.Generator().manual_seed(derived_seed(seed, "order"))
    network.train()
    for _ in range(config.epochs):
        order = torch.randperm(len(photos), generator=rng)
        for rows in order[: steps * size].split(size):
            mirrored = torch.rand(size, generator=rng) < 0.5 if config.flip else None
            batch = _on(device, network.batch(photos, rows, mirrored))
            target = photos.labels[rows].to(device)
            answer, alone = network(batch, precision=_PRECISIONS[config.precision])
            loss = loss_of(answer, target)
            for one, present in alone:
                if own and present.any():
                    loss = loss + own * loss_of(one[present], target[present])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


@torch.no_grad()
def _judge(network: AblationNetwork, experiment: Experiment, device: str) -> torch.Tensor:
    """Predictions, log p_emo, on the evaluation photos: nxC."""
    network.eval()
    precision = _PRECISIONS[experiment.config.precision]
    answers = []
    for rows in torch.arange(len(experiment.judged)).split(_EVALUATION_BATCH):
        batch = _on(device, network.batch(experiment.judged, rows))
        answers.append(network(batch, precision=precision)[0].cpu())
    return torch.cat(answers)


def _on(device: str, batch: FeatureBatch) -> FeatureBatch:
    there = {name: part.to(device) for name, part in vars(batch).items() if part is not None}
    return replace(batch, **there)


def _digest(photos: FeatureSet) -> str:
    digest = hashlib.sha256()
    for key, label in zip(photos.digests, photos.labels.tolist(), strict=True):
        digest.update(f"{key} {label}\n".encode())
    return digest.hexdigest()
