"""Recipes: everything that decides what a training run makes, in one YAML file."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from handler.errors import VeaError
from handler.network import NetworkConfig
from handler.stimuli.selector import SelectorConfig


class RecipeError(VeaError):
    """Not a recipe; the message is one line for people."""


@dataclass(frozen=True)
class TrainingConfig:
    """How the weights are found.

    Attributes:
        epochs: passes over the training split.
        batch_size: images a step.
        crop: side in pixels of the random crop of the colour image.
        crop_scale: least and greatest share of the image's area in a crop.
        flip: mirror half of the crops.
        lr_backbone: peak learning rate of Global-Net.
        lr: peak learning rate of everything else.
        weight_decay: of AdamW.
        polarity_weight: lambda of Eq. 18.
        freeze_stages: first stages of Global-Net's backbone that keep their initial weights, the
            stem with them; 0 trains all.
    """

    epochs: int = 6
    batch_size: int = 48
    crop: int = 192
    crop_scale: tuple[float, float] = (0.5, 1.0)
    flip: bool = True
    lr_backbone: float = 3e-4
    lr: float = 5e-4
    weight_decay: float = 1e-2
    polarity_weight: float = 1.0
    freeze_stages: int = 0


@dataclass(frozen=True)
class Recipe:
    """A whole experiment.

    Attributes:
        name: of the recipe.
        seed: of everything random.
        init: ``"imagenet"`` or ``"random"``, where the backbones start.
        selector: the stimuli.
        network: organism and response.
        training: how the weights are found.
    """

    name: str
    seed: int = 1
    init: str = "imagenet"
    selector: SelectorConfig = field(default_factory=SelectorConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for YAML and JSON."""
        return asdict(self)


def load_recipe(name_or_path: str) -> Recipe:
    """A recipe that travels with the program, by name, or any YAML file, by path.

    Raises:
        RecipeError: there is none, or a setting in it is wrong.
    """
    path = Path(name_or_path)
    shipped = resources.files("train") / "recipes" / f"{name_or_path}.yaml"
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise RecipeError(f"there is no recipe file {path}")
        text = path.read_text()
    elif shipped.is_file():
        text = shipped.read_text()
    else:
        raise RecipeError(
            f"unknown recipe '{name_or_path}': expected a .yaml file or one of "
            + ", ".join(sorted(recipe_names()))
        )
    try:
        values = yaml.safe_load(text)
        training = dict(values.pop("training", {}))
        if "crop_scale" in training:
            training["crop_scale"] = tuple(training["crop_scale"])
        return Recipe(
            selector=SelectorConfig.from_dict(values.pop("selector", {})),
            network=NetworkConfig.from_dict(values.pop("network", {})),
            training=TrainingConfig(**training),
            **values,
        )
    except (yaml.YAMLError, TypeError, ValueError, AttributeError) as error:
        raise RecipeError(f"recipe '{name_or_path}' is wrong: {error}") from None


def recipe_names() -> list[str]:
    """Names of the recipes that travel with the program."""
    folder = resources.files("train") / "recipes"
    return [p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml")]
