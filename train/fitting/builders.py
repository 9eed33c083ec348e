"""Construction of what a recipe describes: the frozen selector and the initialised network."""

from __future__ import annotations

from dataclasses import replace

import torch

from handler.network import StimuliAwareNetwork
from handler.stimuli.selector import StimuliSelector
from train.recipes.reading import RecipeError
from train.recipes.recipe import Recipe
from train.stimuli.cache import SelectorFiles
from train.weights import (
    face_detector,
    initial_backbone,
    initial_branches,
    initial_expression,
    initial_objects,
    is_trained,
    landmark_file,
    object_settings,
)


def build_parts(recipe: Recipe) -> tuple[StimuliSelector, StimuliAwareNetwork]:
    """Build selector and network with their initial weights.

    Raises:
        RecipeError: The object source and the network do not fit together.
        WeightsMissing: Initial weights of a part are missing.
    """
    selector = build_selector(recipe, selector_files(recipe))
    return selector, build_network(recipe, selector)


def selector_files(recipe: Recipe) -> SelectorFiles:
    """The files that the recipe's face search needs.

    Raises:
        WeightsMissing: A file is not installed.
    """
    return SelectorFiles(landmark_file(), face_detector(recipe.selector.faces.backend))


def build_selector(recipe: Recipe, files: SelectorFiles) -> StimuliSelector:
    """The frozen selector with its weights, which complete its settings.

    Raises:
        RecipeError: The object source does not know a setting.
        WeightsMissing: The weights do not exist.
    """
    weights = recipe.initial["objects"]
    settings = object_settings(recipe.selector.objects, weights)
    try:
        selector = files.build(
            replace(recipe.selector, objects=settings), face_threads=torch.get_num_threads()
        )
    except (TypeError, ValueError) as error:
        raise RecipeError(f"the recipe's objects are wrong: {error}") from None
    initial_objects(selector.objects, weights)
    return selector


def build_network(recipe: Recipe, selector: StimuliSelector) -> StimuliAwareNetwork:
    """The network with its initial weights.

    Raises:
        RecipeError: The object source and the network do not fit together, or Semantic-Net cannot
            begin as the recipe says.
        ArchiveError: There is no archive at the path of a trained model.
        WeightsMissing: The weights do not exist.
    """
    expected, offered = recipe.network.object_features, selector.objects.feature_size
    if recipe.network.semantic is not None and expected != offered:
        raise RecipeError(
            f"object_features is {expected}: the recipe's object source yields {offered}"
        )
    network = StimuliAwareNetwork(recipe.network)
    names = recipe.initial
    if network.global_net is not None and not is_trained(names["global"]):
        initial_backbone(network.global_net.backbone, names["global"])
    if names["semantic"] != "random" and not is_trained(names["semantic"]):
        raise RecipeError(
            f"init of 'semantic' is '{names['semantic']}': expected random, or the path of a "
            ".mar file or of a run's model folder"
        )
    if network.expression_net is not None and not is_trained(names["expression"]):
        initial_expression(network.expression_net, names["expression"])
    initial_branches(network, names)
    return network
