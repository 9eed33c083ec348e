"""The one place that knows where the documented parts of the program are."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "train" / "recipes"

# The parts of a recipe, outermost first: key in the YAML file, class with the values, and the
# class whose docstring explains them where the first has none.
RECIPE_PARTS = (
    ("", "train.recipes.recipe.Recipe", None),
    ("selector", "handler.values.configs.SelectorConfig", None),
    ("selector.faces", "handler.values.configs.FaceConfig", None),
    ("network", "handler.values.configs.NetworkConfig", None),
    ("network.semantic", "handler.values.configs.SemanticConfig", None),
    ("training", "train.recipes.training.TrainingConfig", None),
)
OBJECT_SOURCES = (
    ("grid", "handler.stimuli.objects.grid.GridObjects"),
    ("light", "handler.stimuli.objects.light.LightObjects"),
    ("coco", "handler.stimuli.objects.coco.CocoObjects"),
    ("visual_genome", "handler.stimuli.objects.visual_genome.VisualGenomeObjects"),
)
EXPRESSION_RECIPE = "train.expression.recipe.ExpressionRecipe"


def command_line() -> Any:
    """The typer application."""
    return attribute("vea.main.build_app")()


def output_schema() -> Any:
    """The function that gives the columns of `vea score`."""
    return attribute("jobs.output.parquet.schema")


def wheel() -> Any:
    """The wheel of emotions of the shipped model."""
    return attribute("handler.values.emotions.MIKELS")


def openapi() -> dict[str, Any]:
    """The gateway's description, as a gateway with API keys gives it."""
    assets = attribute("vea.web.assets.Assets").load()
    body = 29_000_000  # bytes; a running gateway reads the limit of its server
    description: dict[str, Any] = attribute("vea.web.description.describe")(
        assets, body, keyed=True
    )
    return description


def attribute(path: str) -> Any:
    """What a dotted path names: an attribute of a module."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)
