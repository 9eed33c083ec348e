"""Reading of recipes: the plain values of a YAML file, shipped or a user's own, and overrides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import yaml

from handler.values.errors import VeaError
from train.recipes.keys import check_keys, load_yaml

Config = TypeVar("Config")


class RecipeError(VeaError):
    """A recipe is invalid. The message is one line for the user."""


def read_values(name_or_path: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The plain values of a recipe of any kind (key ``kind``; none: emotions).

    Args:
        name_or_path: Name of the recipe.
        overrides: Overrides of the form ``KEY=VALUE``; dots lead into mappings, as in
            ``training.epochs=2``, and the value is YAML.

    Raises:
        RecipeError: The recipe does not exist, it is not YAML, or an override is malformed.
    """
    path = Path(name_or_path)
    shipped = resources.files("train") / "recipes" / f"{name_or_path}.yaml"
    try:
        if path.suffix in (".yaml", ".yml"):
            text = path.read_text()
        elif shipped.is_file():
            text = shipped.read_text()
        else:
            raise RecipeError(
                f"unknown recipe '{name_or_path}': expected a .yaml file or one of "
                + ", ".join(recipe_names())
            )
        values = load_yaml(text)
    except OSError as error:
        raise RecipeError(f"there is no recipe file {path} ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise wrong_settings(f"recipe '{name_or_path}'", error) from None
    if not isinstance(values, dict):
        raise RecipeError(f"recipe '{name_or_path}' is wrong: expected a mapping of settings")
    seen: set[str] = set()
    for override in overrides:
        key = _override(values, override)
        if key in seen:
            raise RecipeError(f"'{override}' overrides {key} a second time")
        seen.add(key)
    return values


def recipe_names() -> list[str]:
    """Names of the recipes that are part of the package."""
    folder = resources.files("train") / "recipes"
    return sorted(
        p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml")
    )


def _override(values: dict[str, Any], override: str) -> str:
    """Set one value; returns its key with dots."""
    key, equals, text = override.partition("=")
    steps = key.strip().split(".")
    if not equals or not all(steps):
        raise RecipeError(
            f"'{override}' is not an override: expected KEY=VALUE, as training.epochs=2"
        )
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise RecipeError(f"'{override}': the value is not YAML") from None
    place = values
    for step in steps[:-1]:
        if place.get(step) is None:
            place[step] = {}
        place = place[step]
        if not isinstance(place, dict):
            raise RecipeError(f"'{override}': {step} is '{place}', not a mapping of settings")
    place[steps[-1]] = value
    return ".".join(steps)


def build_config(
    config: type[Config], values: Mapping[str, Any], *, what: str, path: str = ""
) -> Config:
    """Build a configuration from the plain values of a recipe.

    Args:
        config: Class of the configuration.
        values: Settings by name.
        what: Words that name the settings in an error message.
        path: Start of the settings' names in an error message, such as ``ablation.``.

    Raises:
        RecipeError: A setting is unknown or wrong.
    """
    try:
        check_keys(values, config, path=path)
        return config(**precision_as_text(values))
    except (TypeError, ValueError) as error:
        raise wrong_settings(what, error) from None


def precision_as_text(values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of settings with ``precision`` as text: YAML reads ``32`` as a number."""
    if "precision" not in values:
        return dict(values)
    return {**values, "precision": str(values["precision"])}


def wrong_settings(what: str, error: Exception) -> RecipeError:
    """The error of wrong settings in one line; ``what`` names them."""
    line = " ".join(str(error).split())  # PyYAML marks the place of the error on several lines
    return RecipeError(f"{what} is wrong: {line}")
