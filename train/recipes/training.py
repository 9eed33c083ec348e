"""`TrainingConfig`: the settings of the optimisation, a part of the recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from handler.values.checks import check_number
from train.recipes.reading import precision_as_text

_CHOICES = {
    "augment": ("random_resized_crop", "random_crop"),
    "optimizer": ("adamw", "adam"),
    "schedule": ("one_cycle", "step"),
    "keep": ("last", "best"),
    "precision": ("32", "bf16-mixed", "16-mixed"),
}
_WHOLE = {
    **{"epochs": 1, "batch_size": 1, "crop": 1, "step_epochs": 1},
    **{"freeze_stages": 0, "early_stopping": 0, "checkpoint_every": 0},
}
_NUMBERS = (
    "lr_backbone",
    "lr",
    "weight_decay",
    "polarity_weight",
    "branch_weight",
    "step_factor",
    "mixup",
)
_FRACTIONS = ("label_smoothing", "soft_label_share", "ema")
_SWITCHES = ("flip", "colour", "calibrate", "deterministic")


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of the optimisation.

    Attributes:
        epochs: Number of passes over the training split.
        batch_size: Number of images in a step, over all devices together.
        augment: Augmentation. ``"random_resized_crop"`` cuts a random fraction of the colour
            stimulus; ``"random_crop"`` cuts a square from the photo brought to the selector's
            ``resize``, as the paper does.
        crop: Side of the random crop, in pixels.
        crop_scale: Smallest and largest fraction of the image's area in a resized crop.
        flip: Whether half of the crops are mirrored.
        colour: Whether the cache keeps the colour stimulus (3*S*S bytes a photo); without it the
            photos are decoded in every epoch.
        optimizer: Optimiser: ``"adamw"``, or ``"adam"``, whose weight decay is part of the
            gradient.
        schedule: Schedule of the learning rates. ``"one_cycle"`` rises to the learning rates and
            falls to nothing over the whole run; ``"step"`` starts with them and multiplies by
            ``step_factor`` every ``step_epochs`` epochs.
        step_epochs: Number of epochs between two steps of the ``step`` schedule.
        step_factor: Factor of each step of the ``step`` schedule.
        lr_backbone: Learning rate of Global-Net, at its peak.
        lr: Learning rate of everything else, at its peak.
        weight_decay: Weight decay of the optimiser.
        polarity_weight: Weight lambda of the polarity loss (Eq. 18).
        branch_weight: Weight of the loss of each branch answering alone, added to the loss of all
            together; 0, as in the paper, leaves it out. Without it the branch that learns fastest
            does the work and the others stay weak.
        label_smoothing: Fraction of the label that is spread evenly over the wheel.
        soft_label_share: Weight of the trained models' predictions in the labels, where predictions
            are given (distillation, `train.fitting.soft_labels`).
        mixup: Parameter of mixup: photos of a batch are blended in pairs with a weight from
            Beta(mixup, mixup); 0 blends none, 0.2 leaves most photos nearly unchanged, 1 draws
            weights uniformly.
        freeze_stages: Number of the first stages of Global-Net's backbone that keep their initial
            weights, the stem with them; 0 trains all.
        ema: Decay of the exponential moving average of the weights that is validated and kept in
            their place; 0 uses none.
        start_share: Weight of the initial weights of the branches that began from a trained model
            (``init``) in the mean that is kept of them and the trained ones; 0 keeps the trained
            ones, 1 lets only the rest learn for good. Validation during training judges the trained
            ones.
        early_stopping: Number of epochs without a better validation accuracy after which training
            ends; 0 never ends early.
        keep: Weights of the model: those of the ``"last"`` epoch or of the ``"best"`` validation
            accuracy.
        calibrate: Whether each branch gets a temperature, fitted on the validation split, at the
            end.
        precision: Floating-point precision, ``"32"``, ``"bf16-mixed"`` or ``"16-mixed"``.
        devices: Number of devices; ``"auto"`` uses all GPUs, or one CPU without any.
        deterministic: Whether operations that are not deterministic are refused; a CPU has none.
        checkpoint_every: Steps between two checkpoints within an epoch, from which a run can be
            resumed; 0: checkpoints at the end of each epoch only.
    """

    epochs: int = 6
    batch_size: int = 48
    augment: str = "random_resized_crop"
    crop: int = 192
    crop_scale: tuple[float, float] = (0.5, 1.0)
    flip: bool = True
    colour: bool = True
    optimizer: str = "adamw"
    schedule: str = "one_cycle"
    step_epochs: int = 5
    step_factor: float = 0.1
    lr_backbone: float = 3e-4
    lr: float = 5e-4
    weight_decay: float = 1e-2
    polarity_weight: float = 1.0
    branch_weight: float = 0.0
    label_smoothing: float = 0.0
    soft_label_share: float = 0.5
    mixup: float = 0.0
    freeze_stages: int = 0
    ema: float = 0.0
    start_share: float = 0.0
    early_stopping: int = 0
    keep: str = "last"
    calibrate: bool = True
    precision: str = "32"
    devices: int | str = "auto"
    deterministic: bool = False
    checkpoint_every: int = 0

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                expected = ", ".join(f"'{choice}'" for choice in choices)
                raise ValueError(f"{name} is '{getattr(self, name)}': expected one of {expected}")
        for name, least in _WHOLE.items():
            check_number(name, getattr(self, name), least=least, whole=True)
        for name in _NUMBERS:
            check_number(name, getattr(self, name), least=0)
        for name in _FRACTIONS:
            check_number(name, getattr(self, name), least=0, below=1)
        check_number("start_share", self.start_share, least=0, most=1)
        for name in _SWITCHES:
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} is '{getattr(self, name)}': expected true or false")
        if self.devices != "auto":
            check_number("devices", self.devices, least=1, whole=True)
        scale = self.crop_scale
        if not isinstance(scale, tuple) or len(scale) != 2:
            raise ValueError(f"crop_scale is {scale}: expected two fractions, such as [0.5, 1.0]")
        for fraction in scale:
            check_number("crop_scale", fraction, least=0)
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"crop_scale is {list(scale)}: expected 0 < least <= greatest <= 1")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainingConfig:
        """The configuration of plain values; what is left out has its default."""
        values = dict(values)
        if isinstance(values.get("crop_scale"), list):
            values["crop_scale"] = tuple(values["crop_scale"])
        return cls(**precision_as_text(values))
