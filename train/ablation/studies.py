"""The ablation studies and their rows: Table II, Fig. 10, Fig. 11, and the steps T.

A row is a variant of the full model that differs from it only in the study's subject. The paper
varies the branches (Table II), lambda (Fig. 10) and the number of objects (Fig. 11). The fourth
study varies what the paper leaves open: the steps T of the LSTMs, and whether Eq. 9 means h_att of
the step before, as printed, or of the same step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from handler.stimuli.objects.grid import count_windows
from handler.values.errors import VeaError
from train.recipes.recipe import Recipe

STUDIES = ("branches", "lambda", "objects", "steps")
# Lambda of Fig. 10 and N of Fig. 11.
LAMBDAS = tuple(quarter / 4 for quarter in range(9))
COUNTS = (0, 1, 2, 4, 6, 8, 10, 12, 16, 20)
STEPS = (1, 2, 3, 4)
FEEDS = ("previous", "current")
# Table II, in its order, with its accuracies on FI in per cent. Of the rows G+S and G+E it is not
# certain which has which of two figures.
_TABLE_2 = {
    "G(Y)": "64.16",
    "G": "67.93",
    "S": "66.47",
    "E": "31.64",
    "G+S": "70.93 or 70.81",
    "G+E": "70.93 or 70.81",
    "S+E": "68.06",
    "G(Y)+S+E": "69.69",
    "G+FC+E": "71.39",
    "G+S+E": "72.42",
}


class AblationError(VeaError):
    """The study is impossible. The message is one line for the user."""


@dataclass(frozen=True)
class Variant:
    """The settings of network and loss in which rows differ.

    Attributes:
        colour: Input of Global-Net: ``"rgb"``; ``"y"``, the luminance alone; None, no branch.
        semantic: Part that reads the objects: ``"lstms"``, Semantic-Net; ``"fc"``, a fully
            connected layer over their mean; None: no branch.
        expression: Whether there is an Expression-Net.
        objects: Number N of the most confident objects that are used.
        steps: Number T of steps.
        attention_feed: Hidden state that Eq. 9 uses, ``"previous"`` or ``"current"``.
        polarity_weight: Weight lambda of the polarity loss (Eq. 18).
    """

    colour: str | None = "rgb"
    semantic: str | None = "lstms"
    expression: bool = True
    objects: int = 10
    steps: int = 3
    attention_feed: str = "previous"
    polarity_weight: float = 1.0

    @property
    def branches(self) -> str:
        """Branches in the notation of Table II: ``G(Y)+S+E``."""
        global_net = {"rgb": "G", "y": "G(Y)", None: None}[self.colour]
        semantic_net = {"lstms": "S", "fc": "FC", None: None}[self.semantic]
        names = (global_net, semantic_net, "E" if self.expression else None)
        return "+".join(name for name in names if name)

    @property
    def slug(self) -> str:
        """A file name.

        Settings that do not affect the variant are left out: equal slugs are equal networks, in any
        study.
        """
        parts = [self.branches.replace("(Y)", "y"), f"lambda{self.polarity_weight:g}"]
        if self.semantic:
            parts.append(f"N{self.objects}")
        if self.semantic == "lstms":
            parts.append(f"T{self.steps}_{self.attention_feed}")
        return "_".join(parts)


@dataclass(frozen=True)
class Study:
    """A comparison.

    Attributes:
        name: Name of the study, one of `STUDIES`.
        title: Title of the study's table.
        rows: Variants by the name of the row, in the order of the table.
        reference: Name of the row that the others are compared with.
        axis: Name of the quantity that varies; None where rows are not numbers.
        points: Series and number of each row, for rows on an axis.
        paper: Accuracy that the paper reports for a row, in per cent.
    """

    name: str
    title: str
    rows: Mapping[str, Variant]
    reference: str
    axis: str | None = None
    points: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    paper: Mapping[str, str] = field(default_factory=dict)

    def select(self, only: Sequence[str]) -> list[str]:
        """Names of the rows to train: those asked for and the reference, or all if none is named.

        Raises:
            AblationError: A row is unknown.
        """
        for name in only:
            if name not in self.rows:
                raise AblationError(
                    f"the study '{self.name}' has no row '{name}': expected "
                    + ", ".join(f"'{row}'" for row in self.rows)
                )
        return [row for row in self.rows if not only or row in only or row == self.reference]


def full_model(recipe: Recipe) -> Variant:
    """The variant that a recipe describes.

    Raises:
        AblationError: The recipe lacks a branch that a study would remove.
    """
    network = recipe.network
    if network.semantic is None or not (network.global_backbone and network.expression_width):
        raise AblationError(
            f"recipe '{recipe.name}' lacks one of the three branches: an ablation begins with all"
        )
    return Variant(
        objects=int(recipe.selector.objects.get("count", 10)),
        steps=network.semantic.steps,
        attention_feed=network.semantic.attention_feed,
        polarity_weight=recipe.training.polarity_weight,
    )


def object_counts(recipe: Recipe) -> tuple[int, ...]:
    """The numbers of objects that differ: a grid of windows has only so many."""
    windows = count_windows(recipe.selector.objects.get("levels") or ())
    return tuple(count for count in COUNTS if not windows or count <= windows)


def build_study(name: str, full: Variant, counts: Sequence[int] = COUNTS) -> Study:
    """The study called ``name`` (one of `STUDIES`) around a full model.

    Args:
        name: Name of the study.
        full: Variant of the full model.
        counts: Numbers N of the rows of the study of objects.

    Raises:
        AblationError: The study is unknown.
    """
    if name == "branches":
        return _branches(full)
    if name == "lambda":
        return Study(
            name,
            "Accuracy by lambda, the weight of the polarity loss (Fig. 10)",
            {f"{value:g}": replace(full, polarity_weight=value) for value in LAMBDAS},
            reference="1",
            axis="lambda",
            points={f"{value:g}": ("", value) for value in LAMBDAS},
            paper={"1": "72.42"},
        )
    if name == "objects":
        return Study(
            name,
            "Accuracy by N, the number of objects (Fig. 11)",
            {str(count): _with_objects(full, count) for count in counts},
            reference="10" if 10 in counts else str(max(counts)),
            axis="N",
            points={str(count): ("", count) for count in counts},
            paper={"10": "72.42"},
        )
    if name == "steps":
        pairs = {f"{steps} {feed}": (steps, feed) for feed in FEEDS for steps in STEPS}
        return Study(
            name,
            "Accuracy by T, the steps of the LSTMs, and by what Eq. 9 feeds",
            {
                row: replace(full, steps=steps, attention_feed=feed)
                for row, (steps, feed) in pairs.items()
            },
            reference="3 previous",
            axis="T",
            points={row: (feed, steps) for row, (steps, feed) in pairs.items()},
        )
    raise AblationError(f"unknown study '{name}': expected one of {', '.join(STUDIES)}")


def largest_count(full: Variant, counts: Sequence[int] = COUNTS) -> int:
    """The largest number of objects in any study around ``full``."""
    return max(*counts, full.objects)


def _branches(full: Variant) -> Study:
    rows = {
        "G(Y)": replace(full, colour="y", semantic=None, expression=False),
        "G": replace(full, semantic=None, expression=False),
        "S": replace(full, colour=None, expression=False),
        "E": replace(full, colour=None, semantic=None),
        "G+S": replace(full, expression=False),
        "G+E": replace(full, semantic=None),
        "S+E": replace(full, colour=None),
        "G(Y)+S+E": replace(full, colour="y"),
        "G+FC+E": replace(full, semantic="fc"),
        "G+S+E": full,
    }
    title = "Accuracy by branches (Table II)"
    return Study("branches", title, rows, reference="G+S+E", paper=_TABLE_2)


def _with_objects(full: Variant, count: int) -> Variant:
    """A variant with ``count`` objects; without objects it has no Semantic-Net."""
    if count == 0:
        return replace(full, semantic=None)
    return replace(full, objects=count)
