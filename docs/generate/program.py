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
    ("", "train.recipe.Recipe", None),
    ("selector", "handler.stimuli.selector.SelectorConfig", None),
    ("selector.faces", "handler.stimuli.selector.FaceConfig", "handler.stimuli.faces.DlibFaces"),
    ("network", "handler.network.NetworkConfig", None),
    ("network.semantic", "handler.organism.semantic_net.SemanticConfig", None),
    ("training", "train.training_config.TrainingConfig", None),
)
OBJECT_SOURCES = (
    ("grid", "handler.stimuli.objects.grid.GridObjects"),
    ("coco", "handler.stimuli.objects.coco.CocoObjects"),
    ("visual_genome", "handler.stimuli.objects.visual_genome.VisualGenomeObjects"),
)
EXPRESSION_RECIPE = "train.expression.ExpressionRecipe"


def command_line() -> Any:
    """The typer application."""
    return _attribute("vea.main.build_app")()


def output_schema() -> Any:
    """The function that gives the columns of `vea score`."""
    return _attribute("jobs.sink.schema")


def emotions() -> tuple[str, ...]:
    """Labels of the shipped model's wheel, in its order."""
    return tuple(_attribute("handler.emotions.MIKELS").labels)


def openapi() -> dict[str, Any]:
    """The gateway's description, as a gateway with API keys gives it."""
    assets = _attribute("vea.web.assets.Assets").load()
    body = 29_000_000  # bytes; a running gateway reads the limit of its server
    description: dict[str, Any] = _attribute("vea.web.description.describe")(
        assets, body, keyed=True
    )
    return description


def _attribute(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)
