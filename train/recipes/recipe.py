"""Recipes: all settings that determine the result of a training run, in one YAML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from handler.values.checks import check_number
from handler.values.configs import NetworkConfig, SelectorConfig
from train.recipes.keys import check_keys
from train.recipes.reading import RecipeError, read_values, wrong_settings
from train.recipes.training import TrainingConfig

MAX_SEED = 2**32 - 1  # numpy takes no greater one
# What kind of training a recipe is for, where it does not say.
EMOTION = "emotion"
_PARTS = ("global", "semantic", "objects", "expression")
# Stands for all parts that `init` does not name.
_MODEL = "model"
_IMAGENET = {"global": "imagenet", "objects": "imagenet", "expression": "random"}


@dataclass(frozen=True)
class Recipe:
    """All settings of a training run.

    Attributes:
        name: Name of the recipe.
        seed: Seed of everything random.
        init: Initial weights of each part: a mapping of ``global``, ``semantic``, ``objects`` and
            ``expression`` to ``random``, ``imagenet``, the name of an imported weights file, a path
            to one, or a trained model (a ``.mar`` file, or the model folder of a run), whose
            columns of the classifier a branch takes along where the wheel is the same. What is left
            out comes from the trained model under ``model``, or else is random. ``"random"`` alone
            stands for all random, ``"imagenet"`` for ImageNet weights in the two that have any.
        selector: Configuration of the stimuli.
        network: Configuration of organism and response.
        training: Configuration of the training.
    """

    name: str
    seed: int = 1
    init: str | dict[str, str] = "imagenet"
    selector: SelectorConfig = field(default_factory=SelectorConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        if isinstance(self.init, dict):
            for part, weights in self.init.items():
                if part not in (*_PARTS, _MODEL):
                    expected = ", ".join((*_PARTS, _MODEL))
                    raise ValueError(f"init names '{part}': expected {expected}")
                if not isinstance(weights, str):
                    raise ValueError(f"init of '{part}' is {weights}: expected the name of weights")
        elif self.init not in ("imagenet", "random"):
            raise ValueError(
                f"init is '{self.init}': expected 'imagenet', 'random', or a mapping of "
                + ", ".join(_PARTS)
            )
        check_number("seed", self.seed, least=0, most=MAX_SEED, whole=True)
        if self.training.augment == "random_crop":
            self._check_random_crop()

    def _check_random_crop(self) -> None:
        if self.training.colour:
            raise ValueError(
                "augment is 'random_crop', which needs the whole photo: set colour: false"
            )
        if self.selector.fit != "crop":
            raise ValueError("augment is 'random_crop', which needs the selector's fit: crop")
        if self.training.crop > self.selector.resize:
            raise ValueError(
                f"crop is {self.training.crop}: photos are {self.selector.resize} pixels (resize) "
                "on their shorter side"
            )

    @property
    def initial(self) -> dict[str, str]:
        """Initial weights of each of the four parts."""
        everywhere = dict.fromkeys(_PARTS, "random")
        if isinstance(self.init, dict):
            rest = self.init.get(_MODEL, "random")
            return {part: self.init.get(part, rest) for part in _PARTS}
        return everywhere if self.init == "random" else everywhere | _IMAGENET

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for YAML and JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """The recipe of plain values; what is left out has its default.

        Raises:
            TypeError, ValueError, AttributeError: The values are not those of a recipe.
        """
        rest = dict(values)
        return cls(
            selector=SelectorConfig.from_dict(rest.pop("selector", {})),
            network=NetworkConfig.from_dict(rest.pop("network", {})),
            training=TrainingConfig.from_dict(rest.pop("training", {})),
            **rest,
        )


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Load a shipped recipe by name, or any YAML file by path.

    Args:
        name_or_path: Name of the recipe.
        overrides: Overrides of the form ``KEY=VALUE``; see `read_values`.

    Raises:
        RecipeError: The recipe does not exist, or one of its settings is wrong.
    """
    values = read_values(name_or_path, overrides)
    kind = values.pop("kind", EMOTION)
    if kind != EMOTION:
        raise RecipeError(f"recipe '{name_or_path}' is of kind '{kind}': expected '{EMOTION}'")
    try:
        check_keys(values, Recipe)
        return Recipe.from_dict(values)
    except (TypeError, ValueError, AttributeError) as error:
        raise wrong_settings(f"recipe '{name_or_path}'", error) from None
