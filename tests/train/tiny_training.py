"""A training that takes seconds: its recipes, and what it logs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from handler.values.configs import NetworkConfig, SelectorConfig, SemanticConfig
from train.recipes.recipe import Recipe
from train.recipes.training import TrainingConfig

LITE = "tf_efficientnet_lite0"
RECIPE = Recipe(
    name="tiny",
    init="random",
    selector=SelectorConfig(
        size=64, objects={"source": "grid", "backbone": LITE, "size": 64, "count": 4}
    ),
    network=NetworkConfig(
        global_backbone=LITE,
        object_features=1280,
        semantic=SemanticConfig(hidden=8, attention=8, steps=2),
        expression_width=2,
    ),
    training=TrainingConfig(epochs=1, batch_size=5, crop=64, freeze_stages=2),
)
# Without a backbone to train: seconds become tenths of seconds.
QUICK = replace(RECIPE, network=replace(RECIPE.network, global_backbone=None))


def shortened(recipe: Recipe, **training: object) -> Recipe:
    return replace(recipe, training=replace(recipe.training, **training))


def logged(run: Path) -> pd.DataFrame:
    return pd.read_csv(run / "logs" / "metrics.csv")
