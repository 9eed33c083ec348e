"""Initial weights from a trained model: the archive or model folder that a training continues from.

A branch takes its weights and, where both have the same wheel, its columns of the classifier W with
them, so that a network whose branches all come from one model begins by answering as that does.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from handler.archive.files import read_card
from handler.archive.loading import load_archive
from handler.network import StimuliAwareNetwork
from handler.stimuli.objects.source import ObjectSource
from train.weights.filling import fill
from train.weights.home import WeightsError

# Branches by part of `init`, in the order of the classifier's columns.
BRANCHES = {"global": "global_net", "semantic": "semantic_net", "expression": "expression_net"}


def is_trained(name: str) -> bool:
    """Whether the name of initial weights is that of a trained model: a ``.mar`` or a folder."""
    return name.endswith(".mar") or Path(name).is_dir()


def initial_branches(network: StimuliAwareNetwork, names: Mapping[str, str]) -> None:
    """Fill the branches that begin from trained models, and the classifier accordingly.

    The bias of the classifier is that of the first such branch's model.

    Args:
        network: Network to fill; its other branches and columns stay as they are.
        names: Initial weights by part, as `Recipe.initial` has them.

    Raises:
        ArchiveError: There is no archive at a path.
        WeightsError: A model does not have a branch, or one of other sizes.
    """
    chosen = {part: names[part] for part in BRANCHES if is_trained(names.get(part, ""))}
    models = {name: load_archive(Path(name)).network for name in set(chosen.values())}
    columns = branch_columns(network)
    first = True
    for part, name in chosen.items():
        attribute, model = BRANCHES[part], models[name]
        ours, theirs = getattr(network, attribute), getattr(model, attribute)
        if ours is None:
            continue
        if theirs is None:
            raise WeightsError(
                f"{name} has no {type(ours).__name__}: set init: {{{part}: ...}} to other weights"
            )
        fill(ours, theirs.state_dict(), Path(name))
        if model.wheel != network.wheel:
            continue
        with torch.no_grad():
            columns[part].copy_(branch_columns(model)[part])
            if first:
                network.response.classifier.bias.copy_(model.response.classifier.bias)
        first = False


def initial_trained_objects(source: ObjectSource, name: str) -> None:
    """Fill an object source with a trained model's.

    Raises:
        ArchiveError: There is no archive at the path.
        WeightsError: The model has another source.
    """
    fill(source, load_archive(Path(name)).selector.objects.state_dict(), Path(name))


def trained_object_settings(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A recipe's object settings, completed by those of a trained model.

    Args:
        config: Object source and its settings, as in a recipe; settings that it names are kept.
        name: Path of the model.

    Raises:
        ArchiveError: There is no archive at the path.
        WeightsError: The model's objects come from another source.
    """
    theirs = read_card(Path(name))[0].selector.objects
    meant, asked = theirs.get("source"), config.get("source")
    if meant != asked:
        raise WeightsError(
            f"the objects of {name} come from '{meant}': the recipe's come from '{asked}'"
        )
    return {**theirs, **config}


def trained_digests(names: Mapping[str, str]) -> dict[str, str]:
    """Digest of every trained model among initial weights, by its path."""
    return {name: read_card(Path(name))[2] for name in names.values() if is_trained(name)}


def branch_columns(network: StimuliAwareNetwork) -> dict[str, torch.Tensor]:
    """The classifier's columns of each branch that is present, Cxd, as views of it, by part."""
    there = [part for part, name in BRANCHES.items() if getattr(network, name) is not None]
    return dict(zip(there, network.response.columns(), strict=True))
