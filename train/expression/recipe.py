"""The recipe of a pre-training of Expression-Net."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from handler.values.checks import check_number
from handler.values.prediction import FACE_SIDE
from train.recipes.reading import RecipeError, build_config, read_values
from train.recipes.recipe import MAX_SEED

_KIND = "expression"
_PRECISIONS = ("32", "32-true", "bf16-mixed", "16-mixed")


@dataclass(frozen=True)
class ExpressionRecipe:
    """How the trunk is pre-trained.

    Attributes:
        name: Name of the recipe.
        seed: Seed of everything random.
        width: Number of channels of the trunk's first stage (the paper's authors use 64).
        epochs: Number of passes over the training faces.
        batch_size: Number of faces in a step.
        crop: Side of the crop from a face in training, in pixels.
        rotation: Largest rotation to either side, in degrees.
        zoom: Largest fraction by which a face grows or shrinks.
        contrast: Largest fraction by which brightness and contrast change.
        flip: Whether half of the faces are mirrored.
        lr: Peak learning rate.
        momentum: Momentum of SGD.
        weight_decay: Weight decay of SGD.
        label_smoothing: Probability mass that goes to the other expressions.
        dropout: Dropout rate before the classifier.
        precision: Floating-point precision, as Lightning names it.
    """

    name: str = "expression"
    seed: int = 1
    width: int = 64
    epochs: int = 20
    batch_size: int = 128
    crop: int = 44
    rotation: float = 12.0
    zoom: float = 0.1
    contrast: float = 0.2
    flip: bool = True
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    dropout: float = 0.3
    precision: str = "32-true"

    def __post_init__(self) -> None:
        check_number("seed", self.seed, least=0, most=MAX_SEED, whole=True)
        # Narrower ones end the process in the gradients of some processors' convolutions.
        check_number("width", self.width, least=8, whole=True)
        for name in ("epochs", "batch_size", "crop"):
            check_number(name, getattr(self, name), least=1, whole=True)
        for name in ("rotation", "zoom", "contrast", "lr", "momentum", "weight_decay"):
            check_number(name, getattr(self, name), least=0)
        for name in ("label_smoothing", "dropout"):
            check_number(name, getattr(self, name), least=0, below=1)
        if self.precision not in _PRECISIONS:
            expected = ", ".join(f"'{precision}'" for precision in _PRECISIONS)
            raise ValueError(f"precision is '{self.precision}': expected one of {expected}")
        if self.crop > FACE_SIDE:
            raise ValueError(f"crop is {self.crop}: faces are {FACE_SIDE} pixels wide")


def load_expression_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> ExpressionRecipe:
    """A recipe of kind ``expression``; arguments as for `train.recipes.reading.read_values`.

    Raises:
        RecipeError: The recipe does not exist, or one of its settings is wrong.
    """
    values = read_values(name_or_path, overrides)
    kind = values.pop("kind", None)
    if kind != _KIND:
        raise RecipeError(f"recipe '{name_or_path}' is of kind '{kind}': expected '{_KIND}'")
    return build_config(ExpressionRecipe, values, what=f"recipe '{name_or_path}'")
