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
        branch_weight: of the loss of each branch answering alone, added to the loss of all
            together; 0, as in the paper, leaves it out. Without it the branch that learns fastest
            does the work and the others stay weak.
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
    branch_weight: float = 0.0
    freeze_stages: int = 0

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("crop", 1), ("freeze_stages", 0)):
            _check_number(name, getattr(self, name), least=least, whole=True)
        for name in ("lr_backbone", "lr", "weight_decay", "polarity_weight", "branch_weight"):
            _check_number(name, getattr(self, name), least=0)
        scale = self.crop_scale
        if not isinstance(scale, tuple) or len(scale) != 2:
            raise ValueError(f"crop_scale is {scale}: expected two shares, such as [0.5, 1.0]")
        for share in scale:
            _check_number("crop_scale", share, least=0)
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"crop_scale is {list(scale)}: expected 0 < least <= greatest <= 1")


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

    def __post_init__(self) -> None:
        if self.init not in ("imagenet", "random"):
            raise ValueError(f"init is '{self.init}': expected 'imagenet' or 'random'")
        _check_number("seed", self.seed, least=0, whole=True)

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
            scale = training["crop_scale"]
            training["crop_scale"] = tuple(scale) if isinstance(scale, list) else scale
        return Recipe(
            selector=SelectorConfig.from_dict(values.pop("selector", {})),
            network=NetworkConfig.from_dict(values.pop("network", {})),
            training=TrainingConfig(**training),
            **values,
        )
    except (yaml.YAMLError, TypeError, ValueError, AttributeError) as error:
        line = " ".join(str(error).split())  # PyYAML draws where the error is, on several lines
        raise RecipeError(f"recipe '{name_or_path}' is wrong: {line}") from None


def _check_number(name: str, value: Any, *, least: float, whole: bool = False) -> None:
    """Raises: ValueError: not a number, or too small a one."""
    expected = f"{'a whole number' if whole else 'a number'} of at least {least}"
    if isinstance(value, str):
        raise ValueError(
            f"{name} is the text '{value}': expected {expected} (YAML wants 3.0e-4, not 3e-4)"
        )
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise ValueError(f"{name} is {value}: expected {expected}")
    if not value >= least:
        raise ValueError(f"{name} is {value}: expected {expected}")


def recipe_names() -> list[str]:
    """Names of the recipes that travel with the program."""
    folder = resources.files("train") / "recipes"
    return [p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml")]
